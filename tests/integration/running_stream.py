"""A generation that goes on while something happens to the daemon."""
import threading

from daemon import wait_until
import grpc
from moed.v1 import generation_pb2, generation_pb2_grpc


class RunningStream:
    """A stream on a thread of its own that outlives what the test does: it ends when its context is
    full."""

    def __init__(self, channel, metadata=None):
        self.num_messages = 0
        self.in_order = True
        self.error = None
        request = generation_pb2.StreamGenerateRequest(
            text="Once", stopping=dict(max_tokens=10**6, ignore_eos=True))
        self._call = generation_pb2_grpc.GenerationServiceStub(channel).StreamGenerate(
            request, metadata=metadata)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        try:
            for message in self._call:
                self.in_order &= message.sequence == self.num_messages
                self.num_messages += 1
        except grpc.RpcError as error:
            self.error = error

    def wait_for_more(self, count=10):
        """Until it has brought further messages, without a gap."""
        goal = self.num_messages + count
        wait_until(lambda: self.num_messages >= goal or not self._thread.is_alive(), "a stream")
        assert self.num_messages >= goal and self.in_order, f"the stream ended: {self.error}"

    def cancel(self):
        self._call.cancel()
        self._thread.join()
