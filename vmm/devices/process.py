"""The process of one device, of whichever kind. Only what that kind needs is loaded."""

from __future__ import annotations

from typing import Any, NoReturn


def run(socket_fd: int, file_fd: int, config: dict[str, Any]) -> NoReturn:
    """Serves a device until the front-end closes the socket; called in a freshly forked child.
    `config["kind"]` says which: "pci", else a virtual one."""
    if config.get("kind") == "pci":
        from vmm.devices import pci_keeper

        pci_keeper.run(socket_fd, file_fd, config)
    from vmm.devices import virtual_process

    virtual_process.run(socket_fd, file_fd, config)
