"""Arrays in a file that is written whole or not at all, and not believed when read.

Needs NumPy only. An archive is an uncompressed ``.npz`` with a comment at its end: the SHA-256,
in hexadecimal, of every byte of the file before it.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import secrets
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

_DIGEST_SIZE = 64  # characters
_PIECE = 1 << 20  # bytes that are read at once


def write_archive(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays; an existing file is replaced at once, after all is on disk.

    The same arrays give the same bytes.

    Parameters
    ----------
    path : str or path-like
    arrays : dict of str to ndarray
        Of any type that is not object.

    Raises
    ------
    FileNotFoundError
        If the folder is not there.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder {os.fspath(path.parent)!r} to save {path.name!r} in: make it "
            "first."
        )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "x+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, array in arrays.items():
                    entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, like numpy.savez
                    with archive.open(entry, "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
                archive.comment = bytes(_DIGEST_SIZE)
            digest = _digest(file)
            file.seek(-_DIGEST_SIZE, os.SEEK_END)
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def read_archive(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read the arrays of `write_archive`, each checked before memory is given to it.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    arrays : dict of str to ndarray

    Raises
    ------
    ValueError
        If the file is no such archive, or is not the one that was written.
    """
    try:
        with open(path, "rb") as file:
            _check_digest(file)
            with zipfile.ZipFile(file) as archive:
                arrays = {_name(entry): _array(archive, entry) for entry in archive.infolist()}
                repeated = len(archive.infolist()) - len(arrays)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever zipfile and NumPy make of bytes that are not theirs
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    if repeated:
        raise damaged(path, "it has several members of one name")
    return arrays


def damaged(path: str | os.PathLike, reason: str) -> ValueError:
    """Return the error about a file that is not used."""
    return ValueError(
        f"{os.fspath(path)!r} is not a model file, or was cut off or changed after it was "
        f"written ({reason}). Nothing was loaded: get the file again, or save the model anew."
    )


def _name(entry: zipfile.ZipInfo) -> str:
    """Name of the array in a member of the archive."""
    if not entry.filename.endswith(".npy"):
        raise ValueError(f"unexpected member {entry.filename!r}")
    return entry.filename[: -len(".npy")]


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """One array, if it has the size that its header promises."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError(f"{entry.filename} is compressed")
    content = io.BytesIO(archive.read(entry))  # zipfile checks the member's own CRC here
    major, _ = np.lib.format.read_magic(content)
    read_header = {
        1: np.lib.format.read_array_header_1_0,
        2: np.lib.format.read_array_header_2_0,
    }[major]
    shape, by_column, dtype = read_header(content)
    rest = content.read()
    if dtype.hasobject or len(rest) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{entry.filename} has {len(rest)} bytes for {dtype} {shape}")
    array = np.frombuffer(rest, dtype) if rest else np.empty(math.prod(shape), dtype)
    return array.reshape(shape, order="F" if by_column else "C").copy(order="K")


def _check_digest(file: BinaryIO) -> None:
    """Refuse a file that does not end in the SHA-256 of what is before."""
    digest = _digest(file)
    if file.read() != digest:
        raise ValueError("its contents do not match its checksum")


def _digest(file: BinaryIO) -> bytes:
    """SHA-256 of all but the checksum itself, which is left to be read, 64 characters."""
    left = max(0, file.seek(0, os.SEEK_END) - _DIGEST_SIZE)
    file.seek(0)
    total = hashlib.sha256()
    while left:
        piece = file.read(min(left, _PIECE))
        total.update(piece)
        left -= len(piece)
    return total.hexdigest().encode()


def _flush_folder(folder: Path) -> None:
    """Make a renaming last, where the system can say so."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
