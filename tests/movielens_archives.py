"""Small archives in the formats of MovieLens, and a server on this machine to fetch them from."""

import io
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

# fmt: off
GENRES_100K = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
]
# fmt: on
# id, title, genres; one title needs quotes in CSV, one is not ASCII, one item is unrated.
ITEMS = [
    (1, "Toy Story (1995)", ["Animation", "Comedy"]),
    (4, 'Say "Yes", Again (2001)', []),
    (31, "Cité des enfants perdus, La (1995)", ["Adventure", "Sci-Fi"]),
    (193609, "Nobody Rated This (2018)", ["Western"]),
]
RATINGS = [
    (1, 31, 4.0, 964982703),
    (1, 4, 2.0, 964981247),
    (7, 1, 5.0, 847434962),
    (162541, 31, 3.0, 1240953372),
]
HALF_STARS = {"latest-small", "10m", "20m", "25m"}


def ratings_of(variant):
    """Rows (user, item, rating, timestamp) of the small archive of a variant."""
    half = 0.5 if variant in HALF_STARS else 0
    return [(user, item, rating - half, time) for user, item, rating, time in RATINGS]


def make_archive(variant, readme="Terms: café.\n", without=()):
    """The bytes of a small archive laid out as GroupLens lays out this variant."""
    files = {
        "100k": _files_100k,
        "1m": lambda v: _files_dat(v, "ml-1m", "latin-1", "README"),
        "10m": lambda v: _files_dat(v, "ml-10M100K", "utf-8", "README.html"),
    }.get(variant, _files_csv)(variant)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            encoding = "latin-1" if variant in ("100k", "1m") else "utf-8"
            if name not in without:
                archive.writestr(name, (text or readme).encode(encoding))
    return stream.getvalue()


def _files_100k(variant):
    lines = [
        f"{item}|{title}|01-Jan-1995||http://us.imdb.com/M/title?{item}|"
        + "|".join(str(int(name in genres)) for name in GENRES_100K)
        for item, title, genres in ITEMS
    ]
    ratings = ["\t".join(map(str, (u, i, int(r), t))) for u, i, r, t in ratings_of(variant)]
    return {
        "ml-100k/README": "",
        "ml-100k/u.data": "\n".join(ratings) + "\n",
        "ml-100k/u.item": "\n".join(lines) + "\n\n",
    }


def _files_dat(variant, folder, encoding, readme):
    ratings = [f"{u}::{i}::{r:g}::{t}" for u, i, r, t in ratings_of(variant)]
    items = [
        f"{item}::{title}::{'|'.join(genres) or '(no genres listed)'}"
        for item, title, genres in ITEMS
    ]
    return {
        f"{folder}/{readme}": "",
        f"{folder}/ratings.dat": "\n".join(ratings) + "\n",
        f"{folder}/movies.dat": "\n".join(items) + "\n",
    }


def _files_csv(variant):
    ratings = [f"{u},{i},{r},{t}" for u, i, r, t in ratings_of(variant)]
    items = [
        f'{item},"{quoted}",{"|".join(genres) or "(no genres listed)"}'
        for item, quoted, genres in [(i, t.replace('"', '""'), g) for i, t, g in ITEMS]
    ]
    return {
        f"ml-{variant}/README.txt": "",
        f"ml-{variant}/ratings.csv": "\r\n".join(["userId,movieId,rating,timestamp", *ratings]),
        f"ml-{variant}/movies.csv": "\r\n".join(["movieId,title,genres", *items]) + "\r\n",
    }


class FileServer:
    """Serves files from memory, as told.

    Attributes
    ----------
    files : dict of str to bytes
        What is served under each name.
    requests : list of str
        The names asked for so far.
    replies_to_cut : int
        How many of the next replies end half way.
    tell_length : bool
        Whether replies announce their length, so that the other side notices a cut.
    address : str
        Where the files are.
    """

    def __init__(self, port):
        self.files = {}
        self.requests = []
        self.replies_to_cut = 0
        self.tell_length = True
        self.address = f"http://127.0.0.1:{port}/datasets/movielens/"

    def reply(self, handler):
        name = handler.path.rpartition("/")[2]
        self.requests.append(name)
        body = self.files.get(name)
        handler.send_response(200 if body else 404)
        if self.tell_length:
            handler.send_header("Content-Length", str(len(body or b"")))
        handler.end_headers()
        if body and self.replies_to_cut:
            self.replies_to_cut -= 1
            body = body[: len(body) // 2]
        handler.wfile.write(body or b"")


@contextmanager
def serve():
    """A running FileServer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.reply(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = FileServer(http.server_port)
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def expected_columns(variant):
    """users and items, ratings, timestamps as fetch_movielens must return them."""
    rows = np.array(ratings_of(variant))
    return rows[:, :2].astype(np.int64), rows[:, 2], rows[:, 3].astype(np.int64)
