#!/usr/bin/env python3
"""Dockerfile, Kubernetes manifests and systemd unit agree with the program and with each other.

No container is built and no cluster asked: deploy/README.md says what that leaves open.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest

sys.dont_write_bytecode = True

from manifests import (DEPLOY, KUBERNETES, SOURCE_DIR, Kustomization, documents,  # noqa: E402
                       dockerfile, read, seconds, unit, words)

MOED = os.environ["MOED_BINARY"]
MOEDCTL = os.environ["MOEDCTL_BINARY"]
BASE = os.path.join(KUBERNETES, "base")
OVERLAYS = os.path.join(KUBERNETES, "overlays")
UNIT = os.path.join(DEPLOY, "systemd", "moed.service")
FOLDERS = [BASE] + sorted(os.path.join(OVERLAYS, name) for name in os.listdir(OVERLAYS))


def run(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL)


def known_flags():
    return set(re.findall(r"--[a-z][a-z0-9-]*", run(MOED, "--help").stdout))


class SettingsTest(unittest.TestCase):
    def test_every_flag_exists(self):
        known = known_flags()
        self.assertIn("--model", known)
        used = {"unit": words(unit(UNIT)["Service"]["ExecStart"])}
        for folder in FOLDERS:
            used[folder] = Kustomization(folder).container["args"]
        for stage in dockerfile(os.path.join(DEPLOY, "Dockerfile")):
            if stage.all("CMD"):
                used[stage.name] = stage.command("CMD")
        for where, arguments in used.items():
            for argument in arguments:
                if argument.startswith("-"):
                    self.assertIn(argument.split("=")[0], known, where)

    def test_the_daemon_reads_every_settings_file(self):
        for directory, _, names in os.walk(DEPLOY):
            for name in names:
                if name.endswith(".toml"):
                    path = os.path.join(directory, name)
                    result = run(MOED, "--config", path, "--print-config")
                    self.assertEqual(result.returncode, 0, f"{path}: {result.stderr}")
                    for key, value in tomllib.loads(read(path)).items():
                        self.assertEqual(tomllib.loads(result.stdout)[key], value, f"{path} {key}")


class KubernetesTest(unittest.TestCase):
    def each(self):
        for folder in FOLDERS:
            with self.subTest(folder=os.path.relpath(folder, DEPLOY)):
                yield Kustomization(folder)

    def settings(self, kustomization):
        return tomllib.loads(kustomization.config_files["moed-config"]["moed.toml"])

    def test_every_file_is_referred_to_and_there(self):
        referred = set()
        for folder in FOLDERS:
            document, = documents(os.path.join(folder, "kustomization.yaml"))
            names = document["resources"] + [patch["path"] for patch in document.get("patches", [])]
            for generator in document.get("configMapGenerator", []):
                names += generator["files"]
            for name in names:
                path = os.path.normpath(os.path.join(folder, name))
                self.assertTrue(os.path.exists(path), path)
                referred.add(path)
        found = {os.path.join(directory, name) for directory, _, names in os.walk(KUBERNETES)
                 for name in names if name != "kustomization.yaml"}
        self.assertEqual(found, {path for path in referred if os.path.isfile(path)})

    def test_probes_ask_what_the_admin_port_serves(self):
        source = read(SOURCE_DIR, "server", "http", "admin_pages.cc")
        for kustomization in self.each():
            ports = {port["name"]: port["containerPort"]
                     for port in kustomization.container["ports"]}
            for probe, path in (("startupProbe", "/startupz"), ("readinessProbe", "/readyz"),
                                ("livenessProbe", "/livez")):
                request = kustomization.container[probe]["httpGet"]
                self.assertEqual(request["path"], path)
                self.assertIn(f'{{"{path}"', source)
                self.assertEqual(ports[request["port"]], 9400)

    def test_the_daemon_listens_where_the_pod_says(self):
        for kustomization in self.each():
            ports = {port["name"]: port["containerPort"]
                     for port in kustomization.container["ports"]}
            settings = self.settings(kustomization)
            self.assertEqual(settings["listen"], [f"0.0.0.0:{ports['grpc']}"])
            self.assertEqual(settings["admin-listen"], [f"0.0.0.0:{ports['admin']}"])
            for service in ("moed", "moed-pods"):
                for port in kustomization.one("Service", service)["spec"]["ports"]:
                    self.assertEqual(port["port"], ports[port["targetPort"]])

    def test_the_pod_outlives_the_drain(self):
        for kustomization in self.each():
            wait = kustomization.container["lifecycle"]["preStop"]["exec"]["command"]
            self.assertEqual(wait[0], "sleep")
            needed = int(wait[1]) + self.settings(kustomization)["drain-timeout"]
            self.assertGreater(kustomization.pod["terminationGracePeriodSeconds"], needed + 5)

    def test_the_pod_can_do_no_more_than_it_needs(self):
        for kustomization in self.each():
            pod, container = kustomization.pod, kustomization.container["securityContext"]
            self.assertTrue(pod["securityContext"]["runAsNonRoot"])
            self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertTrue(container["readOnlyRootFilesystem"])
            self.assertFalse(container["allowPrivilegeEscalation"])
            self.assertEqual(container["capabilities"], {"drop": ["ALL"]})
            self.assertFalse(pod["automountServiceAccountToken"])
            for unwanted in ("hostNetwork", "hostPID", "hostIPC"):
                self.assertNotIn(unwanted, pod)

    def test_volumes_and_mounts_belong_together(self):
        for kustomization in self.each():
            volumes = {volume["name"]: volume for volume in kustomization.pod["volumes"]}
            mounts = {mount["name"]: mount for mount in kustomization.container["volumeMounts"]}
            self.assertEqual(set(volumes), set(mounts))
            for name, mount in mounts.items():
                if name != "shared-memory":
                    self.assertTrue(mount["readOnly"], name)
            settings = self.settings(kustomization)
            for key, volume in (("model", "models"), ("key-file", "keys")):
                self.assertTrue(settings[key].startswith(mounts[volume]["mountPath"] + "/"), key)
            self.assertIn(os.path.join(mounts["config"]["mountPath"], "moed.toml"),
                          kustomization.container["args"])
            # The daemon refuses a key file that others than its owner may write.
            self.assertEqual(volumes["keys"]["secret"]["defaultMode"] & 0o22, 0)
            self.assertIn(volumes["config"]["configMap"]["name"], kustomization.config_files)

    def test_the_budget_selects_the_pods_and_lets_a_node_be_drained(self):
        for kustomization in self.each():
            budget = kustomization.one("PodDisruptionBudget")["spec"]
            labels, = documents(os.path.join(BASE, "kustomization.yaml"))[0]["labels"]
            self.assertTrue(labels["includeSelectors"])
            self.assertEqual(budget["selector"]["matchLabels"], labels["pairs"])
            self.assertEqual(budget["maxUnavailable"], 1)

    def test_eight_gpus_are_eight_ranks(self):
        kustomization = Kustomization(os.path.join(OVERLAYS, "8gpu"))
        arguments = kustomization.container["args"]
        self.assertEqual(arguments[arguments.index("--ranks") + 1], "8")
        resources = kustomization.container["resources"]
        self.assertEqual(resources["limits"]["nvidia.com/gpu"], 8)
        self.assertEqual(resources["requests"]["nvidia.com/gpu"], 8)
        shared, = [volume for volume in kustomization.pod["volumes"]
                   if volume["name"] == "shared-memory"]
        self.assertEqual(shared["emptyDir"]["medium"], "Memory")
        mounts = {mount["name"]: mount["mountPath"]
                  for mount in kustomization.container["volumeMounts"]}
        self.assertEqual(mounts["shared-memory"], "/dev/shm")

    def test_kustomize_builds_what_this_test_read(self):
        if shutil.which("kubectl") is None:
            self.skipTest("there is no kubectl")
        import yaml
        for folder in FOLDERS:
            built = run("kubectl", "kustomize", folder)
            self.assertEqual(built.returncode, 0, built.stderr)
            deployment, = [document for document in yaml.safe_load_all(built.stdout)
                           if document["kind"] == "Deployment"]
            container, = deployment["spec"]["template"]["spec"]["containers"]
            ours = Kustomization(folder).container
            self.assertEqual(container["args"], ours["args"])
            self.assertEqual(container["resources"], ours["resources"])


class DockerfileTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stages = {stage.name: stage for stage in dockerfile(os.path.join(DEPLOY, "Dockerfile"))}

    def images(self):
        return {name: self.stages[name] for name in ("cpu", "cuda")}

    def test_it_takes_only_what_is_there(self):
        for stage in self.stages.values():
            self.assertEqual(stage.all("ADD"), [])
            for copy in stage.all("COPY"):
                *sources, _ = [word for word in copy.split() if not word.startswith("--")]
                origin = re.match(r"--from=(\S+)", copy)
                for source in sources:
                    if origin:
                        self.assertIn(origin.group(1), self.stages)
                        program = "/".join(source.split("/")[-2:])
                        self.assertIn(program, ("server/moed", "client/moedctl", "cuda/libmoed_cuda.so"))
                    else:
                        self.assertTrue(os.path.exists(os.path.join(SOURCE_DIR, source)), source)

    def test_the_builds_differ_by_the_plugin_alone(self):
        cpu, cuda = self.stages["build-cpu"], self.stages["build-cuda"]
        as_cpu = [(name, text.replace("MOED_CUDA=ON", "MOED_CUDA=OFF").replace(" moed_cuda", ""))
                  for name, text in cuda.instructions]
        self.assertNotEqual(cuda.instructions, cpu.instructions)
        self.assertEqual(as_cpu, cpu.instructions)

    def test_the_plugin_lies_where_the_program_looks(self):
        copies = [copy for copy in self.images()["cuda"].all("COPY") if "libmoed_cuda.so" in copy]
        self.assertEqual([copy.split()[-1] for copy in copies],
                         ["/usr/local/lib/moed/libmoed_cuda.so"])

    def test_the_process_is_nobody(self):
        pod = Kustomization(BASE).pod["securityContext"]
        for stage in self.images().values():
            user, group = stage.all("USER")[-1].split(":")
            self.assertEqual((int(user), int(group)), (pod["runAsUser"], pod["runAsGroup"]))
            self.assertEqual(stage.command("ENTRYPOINT"), ["/usr/local/bin/moed"])
            last = [name for name, _ in stage.instructions][-4:]
            self.assertEqual(last, ["USER", "EXPOSE", "ENTRYPOINT", "CMD"])

    def test_the_image_has_every_library_that_the_programs_load(self):
        release = read("/etc/os-release") if os.path.exists("/etc/os-release") else ""
        if "VERSION_CODENAME=bookworm" not in release or shutil.which("readelf") is None:
            self.skipTest("not the distribution of the image")
        loaded = "".join(run("readelf", "-d", program).stdout for program in (MOED, MOEDCTL))
        if "san.so" in loaded:
            self.skipTest("a build with a sanitizer")
        paths = dict(re.findall(r"^\s+(\S+) \(libc6,x86-64[^)]*\) => (\S+)$",
                                run("/sbin/ldconfig", "-p").stdout, flags=re.M))
        # Every image of the distribution has the compiler's and the system's own.
        own = re.compile(r"(ld-linux|libc|libm|libgcc_s|libstdc\+\+)[-.]")
        libraries = [library for library in set(re.findall(r"NEEDED.*\[(.*)\]", loaded))
                     if not own.match(library)]
        self.assertTrue(libraries)
        owners = run("dpkg", "-S", *(os.path.realpath(paths[library]) for library in libraries))
        self.assertEqual(owners.returncode, 0, owners.stderr)
        installed = " ".join(self.images()["cpu"].all("RUN")).split()
        for line in owners.stdout.splitlines():
            self.assertIn(line.split(":")[0], installed, line)

    def test_nothing_of_the_build_is_left_out_of_the_context(self):
        ignored = {line for line in read(DEPLOY, "Dockerfile.dockerignore").splitlines()
                   if line and not line.startswith("#")}
        build = read(SOURCE_DIR, "CMakeLists.txt")
        for folder in re.findall(r"add_subdirectory\((\w+)\)", build.split("MOED_BUILD_TESTS)")[0]):
            self.assertNotIn(folder, ignored)


class SystemdTest(unittest.TestCase):
    def setUp(self):
        self.service = unit(UNIT)["Service"]
        self.settings = tomllib.loads(read(DEPLOY, "systemd", "moed.toml"))

    def test_the_service_outlives_the_drain(self):
        self.assertGreater(seconds(self.service["TimeoutStopSec"]),
                           self.settings["drain-timeout"] + 5)

    def test_it_starts_again_only_where_that_helps(self):
        codes = dict(re.findall(r"constexpr int (\w+) = (\d+);",
                                read(SOURCE_DIR, "server", "app", "exit_code.h")))
        stays = set(self.service["RestartPreventExitStatus"].split())
        self.assertEqual(stays, {codes["kExitUsage"], codes["kExitConfig"],
                                 codes["kExitUnavailable"]})
        self.assertEqual(self.service["Restart"], "on-failure")
        self.assertNotIn(codes["kExitRankFailed"], stays)

    def test_it_is_told_of_readiness_and_confined(self):
        self.assertEqual(self.service["Type"], "notify")
        self.assertEqual(self.service["ExecReload"], "/bin/kill -HUP $MAINPID")
        self.assertEqual(self.service["User"], "moed")
        for option in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "RestrictNamespaces"):
            self.assertEqual(self.service[option], "yes")
        self.assertEqual(self.service["ProtectSystem"], "strict")
        self.assertEqual(self.service["CapabilityBoundingSet"], "")

    def test_systemd_reads_it(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("there is no systemd-analyze")
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "moed.service")
            with open(path, "w") as file:
                file.write(read(UNIT).replace("/usr/local/bin/moed", MOED))
            result = run("systemd-analyze", "verify", "--man=no", path)
            about_ours = [line for line in result.stderr.splitlines() if "moed" in line]
            self.assertEqual(about_ours, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
