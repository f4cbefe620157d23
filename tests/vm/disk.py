"""A disk that loses power as a real one does, served to an emulated machine by the NBD protocol.

The disk has a write cache, as every disk has. The machine sees its own writes at once. Only a flush makes them durable.
When the power fails, what was written since the last flush may be there, be lost, or be torn, in any order.
"""

import mmap
import socket
import struct
import threading

# What a disk of today writes wholly or not at all. btrfs relies on that for its superblock.
SECTOR = 4096

# The numbers of https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md.
FIXED_NEWSTYLE = 1
OPTION_MAGIC = b"IHAVEOPT"
EXPORT_NAME, ABORT, INFO, GO = 1, 2, 6, 7
OPTION_REPLY_MAGIC = 0x3E889045565A9
ACK, INFORMATION, UNSUPPORTED = 1, 3, (1 << 31) + 1
HAS_FLAGS, SEND_FLUSH, SEND_FUA = 1, 4, 8
REQUEST_MAGIC, REPLY_MAGIC = 0x25609513, 0x67446698
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
FORCE_UNIT_ACCESS = 1
NOT_SUPPORTED = 95


class PowerFailed(Exception):
    """The machine that asked is dead. It gets no answer."""


class Disk:
    """The content of an image. The image itself is not changed."""

    def __init__(self, image):
        with open(image, "rb") as file:
            self.durable = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            self.current = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.cached = []

    def __len__(self):
        return len(self.current)

    def read(self, start, length):
        return self.current[start : start + length]

    def write(self, start, data, force):
        end = start + len(data)
        self.current[start:end] = data
        if not force:
            self.cached.append((start, bytearray(data)))
            return
        self.durable[start:end] = data
        # What is in the cache is older.
        for other, older in self.cached:
            first, last = max(start, other), min(end, other + len(older))
            if first < last:
                older[first - other : last - other] = data[first - start : last - start]

    def flush(self):
        for start, data in self.cached:
            self.durable[start : start + len(data)] = data
        self.cached.clear()

    def lose_power(self, rng):
        """Forgets the cache, or writes some of it. Returns what it did, in words."""
        fate = rng.choice(("lost", "in order", "some", "torn"))
        likely = rng.random()
        last = rng.randint(0, len(self.cached))
        kept = 0
        for number, (start, data) in enumerate(self.cached):
            end = start + len(data)
            if fate == "in order" and number < last or fate == "some" and rng.random() < likely:
                self.durable[start:end] = data
                kept += 1
            elif fate == "torn":
                for at in range(start - start % SECTOR, end, SECTOR):
                    if rng.random() < likely:
                        first, stop = max(start, at), min(end, at + SECTOR)
                        self.durable[first:stop] = data[first - start : stop - start]
        for start, data in self.cached:
            self.current[start : start + len(data)] = self.durable[start : start + len(data)]
        words = {"lost": "all lost", "torn": "torn"}.get(fate, f"{kept} kept, {fate}")
        summary = f"{len(self.cached)} writes in the cache: {words}"
        self.cached.clear()
        return summary

    def save(self, path):
        path.write_bytes(self.durable)


class Notes:
    """A small disk without a cache: what was written to it is durable. `told` hears of each text."""

    def __init__(self):
        self.content = bytearray(SECTOR)
        self.told = None

    def __len__(self):
        return SECTOR

    def __str__(self):
        return self.content.decode().strip("\0 \n")

    def read(self, start, length):
        return bytes(self.content[start : start + length])

    def write(self, start, data, _force):
        self.content[start : start + len(data)] = data
        if self.told:
            self.told(str(self))

    def flush(self):
        pass


class Server:
    """Serves disks by their names at a socket. `before_change` is called before each write and each flush of the disk
    that it is given for; it may raise PowerFailed."""

    def __init__(self, path, disks, before_change):
        self.disks = disks
        self.before_change = before_change
        self.lock = threading.Lock()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        self.threads = []
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.accepting.join()
        for thread in self.threads:
            thread.join()

    def _accept(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _serve(self, client):
        with client, client.makefile("rb") as asked:
            try:
                name = self._negotiate(client, asked)
                while name is not None and self._answer(client, asked, name):
                    pass
            except (PowerFailed, ConnectionError, struct.error):
                # The machine is dead: killed, or powered off.
                pass

    def _negotiate(self, client, asked):
        """The name of the disk that the client chose."""
        client.sendall(struct.pack(">8s8sH", b"NBDMAGIC", OPTION_MAGIC, FIXED_NEWSTYLE))
        asked.read(4)
        while True:
            _, option, length = struct.unpack(">8sII", asked.read(16))
            data = asked.read(length)

            def reply(kind, content=b"", option=option):
                client.sendall(struct.pack(">QIII", OPTION_REPLY_MAGIC, option, kind, len(content)) + content)

            if option == ABORT:
                reply(ACK)
                return None
            if option not in (EXPORT_NAME, INFO, GO):
                reply(UNSUPPORTED)
                continue
            if option != EXPORT_NAME:
                data = data[4 : 4 + struct.unpack(">I", data[:4])[0]]
            name = data.decode()
            about = struct.pack(">QH", len(self.disks[name]), HAS_FLAGS | SEND_FLUSH | SEND_FUA)
            if option == EXPORT_NAME:
                client.sendall(about + bytes(124))
                return name
            reply(INFORMATION, struct.pack(">H", 0) + about)
            reply(ACK)
            if option == GO:
                return name

    def _answer(self, client, asked, name):
        """Whether the client may ask again."""
        _, flags, kind, handle, start, length = struct.unpack(">IHHQQI", asked.read(28))
        if kind == DISCONNECT:
            return False
        data, error = b"", 0
        written = asked.read(length) if kind == WRITE else b""
        if kind == WRITE and len(written) < length:
            # The machine was killed while it sent this.
            return False
        disk = self.disks[name]
        with self.lock:
            if kind in (WRITE, FLUSH):
                self.before_change(disk)
            if kind == READ:
                data = disk.read(start, length)
            elif kind == WRITE:
                disk.write(start, written, flags & FORCE_UNIT_ACCESS)
            elif kind == FLUSH:
                disk.flush()
            else:
                error = NOT_SUPPORTED
        client.sendall(struct.pack(">IIQ", REPLY_MAGIC, error, handle) + data)
        return True
