"""The MovieLens archives: what is in each, and how to read it."""

import contextlib
import io
import os
import zipfile
import zlib
from dataclasses import dataclass
from tempfile import NamedTemporaryFile

import numpy as np

from .._compat import warn_caller
from ._text import read_columns, records_of

_CACHE_VERSION = 1
_NO_GENRES = "(no genres listed)"
# fmt: off
_GENRES_100K = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
]
# fmt: on


@dataclass(frozen=True)
class Archive:
    """One MovieLens archive.

    Attributes
    ----------
    folder : str
        Folder all files of the archive are in.
    checksum : str
        Checksum of the archive, in hexadecimal digits.
    ratings, items, readme : str
        Names of the files in the folder.
    delimiter, item_delimiter : str
        What separates the fields of ratings and items; after a comma there is a header.
    encoding : str
        Encoding of items and readme. Ratings are ASCII.
    algorithm : str
        What the checksum is computed with.
    changes : bool
        Whether the publisher replaces the archive now and then.
    may_be_shared : bool
        Whether its licence lets it be redistributed under the same conditions.
    """

    folder: str
    checksum: str
    ratings: str = "ratings.csv"
    items: str = "movies.csv"
    readme: str = "README.txt"
    delimiter: str = ","
    item_delimiter: str = ","
    encoding: str = "utf-8"
    algorithm: str = "sha256"
    changes: bool = False
    may_be_shared: bool = True


ARCHIVES = {
    "latest-small": Archive(
        folder="ml-latest-small",
        checksum="696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        changes=True,
    ),
    "100k": Archive(
        folder="ml-100k",
        checksum="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        ratings="u.data",
        items="u.item",
        readme="README",
        delimiter="\t",
        item_delimiter="|",
        encoding="latin-1",
        may_be_shared=False,
    ),
    "1m": Archive(
        folder="ml-1m",
        checksum="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        ratings="ratings.dat",
        items="movies.dat",
        readme="README",
        delimiter="::",
        item_delimiter="::",
        encoding="latin-1",
        may_be_shared=False,
    ),
    "10m": Archive(
        folder="ml-10M100K",
        checksum="ce571fd55effeba0271552578f2648bd",
        ratings="ratings.dat",
        items="movies.dat",
        readme="README.html",
        delimiter="::",
        item_delimiter="::",
        algorithm="md5",
        may_be_shared=False,
    ),
    "20m": Archive(
        folder="ml-20m",
        checksum="96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
    ),
    "25m": Archive(
        folder="ml-25m",
        checksum="8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
    ),
}


def read_archive(path, archive):
    """Read ratings and items from the zip file.

    Parameters
    ----------
    path : Path
        The zip file.
    archive : Archive
        Which one it is.

    Returns
    -------
    contents : dict of str to ndarray
        ``users``, ``items``, ``ratings`` and ``timestamps`` of shape (n_ratings,); ``catalogue``
        and ``readme``, texts as arrays of bytes (see :func:`read_catalogue`).

    Raises
    ------
    ValueError
        If a file is missing from the zip file or cannot be read.
    """
    with zipfile.ZipFile(path) as files:
        missing = {f"{archive.folder}/{name}" for name in (archive.ratings, archive.items)}
        missing -= set(files.namelist())
        if missing:
            raise ValueError(
                f"{path} is not the archive it should be: it lacks {sorted(missing)}. Remove it "
                "to have it downloaded again."
            )
        with _open_member(files, archive, archive.ratings) as lines:
            users, items, ratings, timestamps = read_columns(
                lines, archive.delimiter, range(4), [np.int32, np.int32, np.float32, np.int64]
            )
        with _open_member(files, archive, archive.items) as lines:
            catalogue = "\n".join(_catalogue_lines(lines, archive.item_delimiter))
        readme = ""
        if f"{archive.folder}/{archive.readme}" in files.namelist():
            # Not worth an error: only a text for people.
            readme = files.read(f"{archive.folder}/{archive.readme}").decode(
                archive.encoding, "replace"
            )
    return {
        "users": users,
        "items": items,
        "ratings": ratings,
        "timestamps": timestamps,
        "catalogue": _to_bytes(catalogue),
        "readme": _to_bytes(readme),
    }


def read_catalogue(contents):
    """Titles and genres of the items.

    Parameters
    ----------
    contents : dict
        What :func:`read_archive` returned.

    Returns
    -------
    titles : dict of int to str
        Title of each item id.
    genres : dict of int to tuple of str
        Genres of each item id.
    """
    titles, genres = {}, {}
    for line in to_text(contents["catalogue"]).split("\n"):
        item, title, names = line.split("\t")
        titles[int(item)] = title
        genres[int(item)] = tuple(names.split("|")) if names else ()
    return titles, genres


def load_contents(path, cache_path, archive, checksum):
    """Contents of the archive, from the parsed copy beside it if that is of the same archive.

    Parameters
    ----------
    path : Path
        The zip file.
    cache_path : Path
        Where the parsed copy is, or is put.
    archive : Archive
        Which archive it is.
    checksum : str
        Checksum of the zip file as it is now.

    Returns
    -------
    contents : dict of str to ndarray
        As of :func:`read_archive`.
    """
    stamp = _to_bytes(f"{_CACHE_VERSION} {checksum}")
    contents = _load_copy(cache_path, stamp)
    if contents is not None:
        return contents
    if checksum != archive.checksum:
        warn_caller(
            f"{path} is not the version known to this package, whose {archive.algorithm.upper()} "
            f"checksum is {archive.checksum}, but has {checksum}. Its publisher replaces it now "
            "and then: figures may differ from those published elsewhere.",
            UserWarning,
        )
    contents = read_archive(path, archive)
    # The copy only saves time: a data home that is full or read-only still serves its zip file.
    with contextlib.suppress(OSError):
        _save_atomically(cache_path, {**contents, "stamp": stamp})
    return contents


def _load_copy(cache_path, stamp):
    """The parsed copy, or None where it is absent, broken or of another archive."""
    try:
        with cache_path.open("rb") as stream, np.load(stream, allow_pickle=False) as copy:
            if np.array_equal(copy["stamp"], stamp):
                return {name: copy[name] for name in copy.files if name != "stamp"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        pass
    return None


def to_text(array):
    """Text kept as an array of bytes, because an array of strings takes the longest for each."""
    return array.tobytes().decode()


def _to_bytes(text):
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _open_member(files, archive, name):
    """The text of a file in the archive, without its header."""
    stream = io.TextIOWrapper(files.open(f"{archive.folder}/{name}"), archive.encoding)
    if name.endswith(".csv"):
        stream.readline()
    return stream


def _catalogue_lines(lines, delimiter):
    """One line an item: id, title and genres, separated by tabs."""
    for _, fields in records_of(lines, delimiter):
        item, title, genres = fields[0], delimiter.join(fields[1:-1]), fields[-1]
        if delimiter == "|":
            title, flags = fields[1], fields[-len(_GENRES_100K) :]
            pairs = zip(_GENRES_100K, flags, strict=True)
            genres = "|".join(name for name, flag in pairs if flag == "1")
        yield "\t".join([item, title.replace("\t", " "), genres.replace(_NO_GENRES, "")])


def _save_atomically(path, arrays):
    """Write an npz file that other processes see whole or not at all."""
    stream = NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False)  # noqa: SIM115
    try:
        with stream:
            np.savez(stream, **arrays)
        os.replace(stream.name, path)
    except BaseException:
        os.unlink(stream.name)
        raise
