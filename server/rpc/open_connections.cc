#include "server/rpc/open_connections.h"

#include <sys/stat.h>

namespace moed {

void OpenConnections::Add(int fd) {
  struct stat status = {};
  // Where another had this descriptor, that one is closed.
  if (fstat(fd, &status) == 0) open_[fd] = {status.st_dev, status.st_ino};
}

int OpenConnections::Count() {
  absl::erase_if(open_, [](const auto& entry) {
    const auto& [fd, identity] = entry;
    struct stat status = {};
    return fstat(fd, &status) != 0 || status.st_dev != identity.device ||
           status.st_ino != identity.inode;
  });
  return at_most();
}

}  // namespace moed
