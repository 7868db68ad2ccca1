"""A small machine under QEMU: Debian's cloud kernel, which has sch_netem, and busybox, ip and tc from this one."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

KERNEL = "linux-image-cloud-amd64"
MODULES = ("drivers/net/veth.ko", "net/sched/sch_netem.ko", "net/sched/sch_tbf.ko")
TC_TABLES = ("usr/lib/tc", "usr/share/tc", "usr/lib/x86_64-linux-gnu/tc")  # where a tc looks for distributions
NEEDED = ("qemu-system-x86_64", "busybox", "apt-get", "dpkg", "ip", "tc")
_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
export PATH=/sbin:/bin
# busybox's shell takes its own `ip` before any file
ip() { /sbin/ip "$@"; }
for module in /modules/*.ko; do insmod $module; done
echo "guest: kernel $(uname -r)"
. /script
echo "guest: end"
poweroff -f
"""


def fetch_kernel(directory: Path) -> Path:
    """Download and unpack Debian's cloud kernel (it is not installed); gives the unpacked tree."""
    depends = _run(["apt-cache", "depends", KERNEL], directory)
    package = next(re.finditer(r"Depends: (linux-image-\S+)", depends))[1]
    _run(["apt-get", "download", "--quiet", package], directory)
    _run(["dpkg", "-x", str(next(directory.glob("linux-image-*.deb"))), "kernel"], directory)
    return directory / "kernel"


def build_initramfs(kernel: Path, script: str, target: Path) -> None:
    """Write a compressed archive of all that the guest runs; `script` is run in it by busybox's shell."""
    with gzip.open(target, "wb", compresslevel=1) as archive:
        inode = 0
        for name in ("bin", "dev", "lib", "lib64", "modules", "proc", "run", "sys", "tmp", "var"):
            archive.write(_entry(name, 0o40755, b"", inode := inode + 1))
        directories = {"bin", "lib", "lib64", "modules"}
        archive.write(_entry("init", 0o100755, _INIT.encode(), inode := inode + 1))
        archive.write(_entry("script", 0o100755, script.encode(), inode := inode + 1))
        for source, name in _files(kernel):
            for parent in reversed(Path(name).parents[:-1]):
                if str(parent) not in directories:
                    directories.add(str(parent))
                    archive.write(_entry(str(parent), 0o40755, b"", inode := inode + 1))
            archive.write(_entry(name, 0o100755, source.read_bytes(), inode := inode + 1))
        archive.write(_entry("TRAILER!!!", 0, b"", 0))


def boot(kernel: Path, initramfs: Path, timeout_s: float) -> list[str]:
    """Run the guest to its end; gives what it printed after its kernel was up.

    Its clock counts instructions and skips idle time (`-icount`), so that the load of this machine is not in it.
    """
    (image,) = (kernel / "boot").glob("vmlinuz-*")
    command = ["qemu-system-x86_64", "-accel", "tcg", "-icount", "shift=1,sleep=off", "-m", "512", "-nographic"]
    command += ["-no-reboot", "-nic", "none", "-kernel", str(image), "-initrd", str(initramfs)]
    command += ["-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=True
    )
    lines = [line.strip() for line in done.stdout.splitlines()]
    starts = [number for number, line in enumerate(lines) if "guest: kernel" in line]
    if not starts or "guest: end" not in lines:
        raise RuntimeError("the guest did not come to its end:\n" + "\n".join(lines[-30:]))
    return lines[starts[0] :]


def _files(kernel: Path) -> Iterator[tuple[Path, str]]:
    """What goes into the guest, and under which name."""
    modules = next((kernel / "lib" / "modules").iterdir()) / "kernel"
    for number, module in enumerate(MODULES):
        yield modules / module, f"modules/{number}-{Path(module).name}"
    libraries: set[str] = set()
    for name in ("bin/busybox", "sbin/ip", "sbin/tc"):
        command = shutil.which(Path(name).name)
        assert command is not None
        yield Path(command), name
        listed = subprocess.run(["ldd", command], capture_output=True, text=True, check=False).stdout
        libraries.update(re.findall(r"(/\S+) \(0x", listed))
    for library in sorted(libraries):
        yield Path(library).resolve(), library.lstrip("/")
    for table in TC_TABLES:
        for path in Path("/", table).glob("*.dist"):
            yield path, f"{table}/{path.name}"


def _entry(name: str, mode: int, content: bytes, inode: int) -> bytes:
    """One entry of a cpio archive in the kernel's `newc` format."""
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def _run(command: Sequence[str], directory: Path) -> str:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=True).stdout
