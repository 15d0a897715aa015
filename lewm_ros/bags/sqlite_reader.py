# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Reader of rosbag2's sqlite3 files (.db3), of every schema version.

The reader of the ``rosbags`` package rejects truncated databases and ignores a write-ahead log;
a killed recorder leaves both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
import sqlite3

from lewm_ros.bags.raw import RawFile, room
from lewm_ros.errors import BagError


class SqliteFile(RawFile):
    """One .db3 file. Raises BagError if it is no database of rosbag2."""

    def __init__(self, path: Path, problems: Counter[str]) -> None:
        super().__init__(path)
        self._database = _connect(path, problems)
        try:
            tables = self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            lacking = {'topics', 'messages'} - {name for (name,) in tables}
            if lacking:
                raise BagError(f'{path.name} has no table {" and ".join(sorted(lacking))}')
            query = 'SELECT id, name, type, serialization_format FROM topics ORDER BY id'
            for number, name, kind, encoding in self._database.execute(query):
                self.add_topic(number, str(name), str(kind), str(encoding))
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self.close()
            raise BagError(f'{path.name}: {error}') from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def counts(self) -> Counter[int]:
        """Messages by topic, up to the first damage."""
        found: Counter[int] = Counter()
        with suppress(sqlite3.Error):
            for (number,) in self._database.execute('SELECT topic_id FROM messages'):
                found[number] += 1
        return found

    def messages(
        self, wanted: Collection[int], problems: Counter[str]
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield (topic, log time [ns], data) in the order of writing."""
        last = None
        query = 'SELECT id, topic_id, timestamp, data FROM messages ORDER BY id'
        try:
            for row, number, logged, data in self._database.execute(query):
                if last is not None and row <= last:  # a damaged tree may have cycles
                    raise sqlite3.DatabaseError('rows are not in order')
                last = row
                if number not in wanted:
                    continue
                if isinstance(data, bytes) and isinstance(logged, int):
                    yield number, logged, data
                else:
                    problems[f'{self.path.name}: row that is not a message'] += 1
        except (sqlite3.Error, UnicodeDecodeError) as error:
            problems[f'{self.path.name}: {error}; what follows is lost'] += 1


def _connect(path: Path, problems: Counter[str]) -> sqlite3.Connection:
    """Open read-only, with the write-ahead log if there is one and it can be read."""
    uri = path.absolute().as_uri()
    for options in ('mode=ro', 'immutable=1'):
        database = sqlite3.connect(f'{uri}?{options}', uri=True)
        try:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(room(path.stat().st_size), 1 << 30))
            # Without this, a file shorter than its header says is rejected.
            database.execute('PRAGMA writable_schema = ON')
            database.execute('PRAGMA cell_size_check = ON')
            database.execute('SELECT count(*) FROM sqlite_master')
        except sqlite3.OperationalError as error:
            database.close()
            problems[f'{path.name}: opened without its write-ahead log ({error})'] += 1
        except sqlite3.DatabaseError as error:
            database.close()
            raise BagError(f'{path.name}: {error}') from error
        except BaseException:
            database.close()
            raise
        else:
            return database
    raise BagError(f'{path.name} cannot be opened by sqlite3')
