"""What the pods scrape, and what they send to: counts of samples and lines. Only what is needed of protobuf and snappy."""

import collections
import http.server
import threading


class Received:
    """What has arrived: the slots that were taken and what was seen in them, by target, and lines."""

    def __init__(self):
        # Target -> time of the slot -> values of `up`; a target that answers too late has a slot all the same.
        self.slots = collections.defaultdict(lambda: collections.defaultdict(set))
        self.ticks = collections.defaultdict(lambda: collections.defaultdict(set))
        self.stages = set()
        self.lines = set()
        self.repeated = 0
        self.lock = threading.Lock()

    def take_samples(self, body):
        with self.lock:
            for series in fields(body, 1):
                labels = {text(label, 1): text(label, 2) for label in fields(series, 1)}
                self.stages.add(labels.get("stage"))
                kept = {"up": self.slots, "ticks": self.ticks}.get(labels["__name__"])
                for sample in fields(series, 2) if kept is not None else []:
                    kept[labels["instance"]][first(sample, 2)].add(first(sample, 1))

    def take_lines(self, body):
        with self.lock:
            for stream in fields(body, 1):
                labels = text(stream, 1)
                for entry in fields(stream, 2):
                    key = (labels, first(entry, 1), text(entry, 2))
                    # As Loki does: the same line at the same time of the same stream is the same line.
                    self.repeated += key in self.lines
                    self.lines.add(key)


def walk(message):
    """(number, value) of a protobuf message's fields."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(kind) or varint()
        yield key >> 3, message[at:at + size]
        at += size


def fields(message, number):
    return [value for found, value in walk(message) if found == number]


def first(message, number):
    return next((value for found, value in walk(message) if found == number), 0)


def text(message, number):
    return (first(message, number) or b"").decode()


def unsnap(data):
    """Snappy's block format."""
    at = 0
    while data[at] >= 128:
        at += 1
    at += 1
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            size = tag >> 2
            if size >= 60:
                extra = size - 59
                size = int.from_bytes(data[at:at + extra], "little")
                at += extra
            out += data[at:at + size + 1]
            at += size + 1
            continue
        if tag & 3 == 1:
            size, back = (tag >> 2 & 7) + 4, (tag >> 5 << 8) | data[at]
            at += 1
        else:
            extra = 2 if tag & 3 == 2 else 4
            size, back = (tag >> 2) + 1, int.from_bytes(data[at:at + extra], "little")
            at += extra
        for _ in range(size):
            out.append(out[-back])
    return bytes(out)


class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Target(Quiet):
    """Counts how often it was asked: two scrapes of one slot have different values."""

    counts = collections.Counter()
    lock = threading.Lock()

    def do_GET(self):
        with self.lock:
            self.counts[self.server.server_port] += 1
            count = self.counts[self.server.server_port]
        try:
            self.answer(200, f"ticks {count}\n".encode())
        except ConnectionError:
            # Too late: the machine is short of processor time, and the scrape has ended.
            self.close_connection = True


class Receiver(Quiet):
    received = None

    def do_POST(self):
        body = unsnap(self.rfile.read(int(self.headers["Content-Length"])))
        (self.received.take_lines if "loki" in self.path else self.received.take_samples)(body)
        self.answer(204)


def serve(address, port, handler):
    server = http.server.ThreadingHTTPServer((address, port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
