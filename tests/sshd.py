"""Another computer for tests: this one, over a throw-away ssh server on a loopback port, with keys of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

NAME = "gpu-box"


@dataclass(frozen=True)
class Machine:
    """The other computer.

    Attributes
    ----------
    address : str
        Of the engine there, with this very Python.
    home : Path
        Its home folder of napari-unet.
    folder : Path
        Keys and configurations.
    port : int
        Of its ssh server.
    """

    address: str
    home: Path
    folder: Path
    port: int

    def address_of(self, python: Path | str) -> str:
        """Return the address with another Python."""
        return f"{NAME}{python}"

    def configure(self, **changed: str) -> None:
        """Write the ssh configuration of the user, with some entries changed."""
        entries = {
            "HostName": "127.0.0.1", "Port": str(self.port), "User": getpass.getuser(),
            "IdentityFile": str(self.folder / "user_key"), "IdentitiesOnly": "yes", "IdentityAgent": "none",
            "UserKnownHostsFile": str(self.folder / "known_hosts"), "GlobalKnownHostsFile": os.devnull, **changed,
        }  # fmt: skip
        lines = "".join(f"  {name} {value}\n" for name, value in entries.items())
        (self.folder / "ssh_config").write_text(f"Host {NAME}\n{lines}", encoding="utf-8")


def make_key(path: Path) -> str:
    """Make a key without a pass phrase, and return its public part."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)
    return path.with_suffix(".pub").read_text(encoding="utf-8")


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_server() -> str:
    """Return the path of the ssh server; skip the test where there is none."""
    if os.name != "posix":
        pytest.skip("the ssh server of this system is another one")
    server = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    missing = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    missing += [] if server else ["sshd"]
    if missing or server is None:
        pytest.skip(f"{', '.join(missing)} missing; on Debian: apt-get install openssh-server")
    return server


def write_server_config(folder: Path, port: int, home: Path) -> Path:
    """Write the configuration of a server that takes one key, and return its path."""
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder / 'host_key'}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"SetEnv NAPARI_UNET_HOME={home} OMP_NUM_THREADS=1\n",
        encoding="utf-8",
    )
    return config


def wait_for_server(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until a server takes connections; skip the test when this system does not let it."""
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    pytest.skip(f"sshd does not start here: {log.read_text(errors='replace').strip()[-300:]}")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Another computer, which ssh knows by a name of its own configuration."""
    server = find_server()
    folder, home, port = tmp_path / "ssh", tmp_path / "other-home", free_port()
    folder.mkdir(mode=0o700)
    host = make_key(folder / "host_key")
    (folder / "authorized_keys").write_text(make_key(folder / "user_key"), encoding="utf-8")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}", encoding="utf-8")
    found = Machine(f"{NAME}{sys.executable}", home, folder, port)
    found.configure()
    monkeypatch.setenv("NAPARI_UNET_SSH", f"ssh -F {folder / 'ssh_config'}")
    separated = Path("/run/sshd")
    if os.getuid() == 0 and not separated.exists():
        # As root it gives up its rights in a folder that Debian makes when the service starts.
        separated.mkdir(mode=0o755)
    log = folder / "sshd.log"
    process = subprocess.Popen([server, "-D", "-f", write_server_config(folder, port, home), "-E", log])
    wait_for_server(process, port, log)
    yield found
    process.terminate()
    process.wait(10)
