#!/usr/bin/python3
"""Cuts the power of an emulated machine that installs, upgrades, heals and uninstalls, starts it again, and judges what
it finds.

scripts/vm runs it and brings what it needs. The machine runs power-cuts.sh. Nothing of the program's own code judges:
the machine's busybox lists the files with their digests, and this file knows from the archives what they must be.
"""

import argparse
import hashlib
import json
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import disk

BIN, CONF, STATE = "/opt/cni/bin/", "/etc/cni/net.d/", "/opt/cni/.cni-keeper/"
CONFLIST = CONF + "10-cni-keeper.conflist"
PLUGINS = ("loopback", "tuning")
TEMP = re.compile(r"\.cni-keeper-[0-9a-f]{16}\.tmp")
EMPTY = hashlib.sha256().hexdigest()
# How many rounds of work a machine has, should the power not fail before.
ROUNDS = 1000
# So many writes and flushes a start takes, and a round or two of work.
START, WORK = 60, 130
# The longest that a machine may take, in seconds. It takes about a twentieth of that.
LONGEST = 300


class Release:
    """What a release of the plugins must look like on a node."""

    def __init__(self, name, archive):
        self.name = name
        with tarfile.open(archive) as members:
            self.bytes = {plugin: members.extractfile("./" + plugin).read() for plugin in PLUGINS}
        self.digests = {plugin: digest(content) for plugin, content in self.bytes.items()}

    def is_conflist(self, text):
        """Whether this text says what power-cuts.sh declares for this release."""
        plugins = [{"type": plugin} for plugin in PLUGINS]
        wanted = {"cniVersion": "1.0.0", "name": "network-" + self.name, "plugins": plugins}
        try:
            found = json.loads(text)
        except ValueError:
            return False
        return found == wanted

    def damaged(self, plugin, how):
        """The digest of the damaged plugin; None if there is none."""
        if how == "deleted":
            return None
        if how == "truncated":
            return EMPTY
        content = bytearray(self.bytes[plugin])
        content[100:106] = b"damage"
        return digest(content)


class Listing:
    """The files of a node."""

    def __init__(self, lines):
        self.files = {}
        self.modes = {}
        self.conflist = None
        for line in lines:
            if line.startswith("file "):
                _, mode, user, group, sha256, path = line.split(" ", 5)
                self.files[path] = sha256
                self.modes[path] = (mode, user, group)
            elif line.startswith("conflist "):
                self.conflist = line.removeprefix("conflist ")

    def below(self, directory):
        return {path.removeprefix(directory): sha256 for path, sha256 in self.files.items() if path.startswith(directory)}


def digest(content):
    return hashlib.sha256(content).hexdigest()


class Judge:
    """Says what is wrong with a list of files, a line each."""

    def __init__(self, releases):
        self.releases = {release.name: release for release in releases}

    def judge(self, moment, note, listing):
        word, declared, *rest = note.split()
        if moment == "found":
            wrong = self.found(listing, word, self.releases[declared], rest)
        elif moment == "started":
            wrong = self.as_declared(listing, self.releases[declared])
        else:
            wrong = (f"{path} is left" for path in listing.files if path not in (STATE + "ledger.json", STATE + "lock"))
        return list(wrong)

    def found(self, listing, word, declared, rest):
        """What a power cut left, before the program ran again."""
        for name in listing.below(BIN).keys() - PLUGINS:
            if not TEMP.fullmatch(name):
                yield f"{BIN}{name} is nobody's"
        for name in listing.below(CONF).keys() - {CONFLIST.removeprefix(CONF)}:
            if not TEMP.fullmatch(name):
                yield f"{CONF}{name} is nobody's"
        releases, may_lack, damaged, how = [declared], False, None, None
        if word == "upgrading":
            releases.append(self.releases[rest[0]])
        elif word == "damaging":
            damaged, how = rest
        elif word in ("installing", "removing"):
            may_lack = True
        elif word in ("none", "removed"):
            releases = []
        for plugin in PLUGINS:
            right = {release.digests[plugin] for release in releases}
            if may_lack or not releases:
                right.add(None)
            if plugin == damaged:
                # Cutting the file short and filling it again are two changes for a file system.
                right |= {declared.damaged(plugin, how)}
            yield from self.is_one_of(listing, BIN + plugin, right)
        yield from self.conflist_found(listing, releases, may_lack, damaged, how)

    def conflist_found(self, listing, releases, may_lack, damaged, how):
        text = listing.conflist
        if damaged == "conflist":
            # What power-cuts.sh does to it, and whatever the program has made of that.
            if text is None and how == "deleted" or listing.files.get(CONFLIST) == EMPTY and how == "truncated":
                return
            if text is not None and how == "overwritten" and "damage" in text:
                return
        if text is None:
            if releases and not may_lack:
                yield f"{CONFLIST} is missing"
            return
        of = [release for release in releases if release.is_conflist(text)]
        if not of:
            yield f"{CONFLIST} is none that was declared: {text!r}"
        elif not damaged:
            # The plugins come first, so they are those of the conflist, or newer ones.
            for plugin in PLUGINS:
                newer = releases[: releases.index(of[0]) + 1]
                yield from self.is_one_of(listing, BIN + plugin, {release.digests[plugin] for release in newer})

    def as_declared(self, listing, release):
        """What the program must have made of that once it is ready."""
        for plugin in PLUGINS:
            yield from self.is_one_of(listing, BIN + plugin, {release.digests[plugin]})
            if listing.modes.get(BIN + plugin, ("755", "0", "0")) != ("755", "0", "0"):
                yield f"{BIN}{plugin} has another mode or owner: {listing.modes[BIN + plugin]}"
        if listing.conflist is None or not release.is_conflist(listing.conflist):
            yield f"{CONFLIST} is not as declared: {listing.conflist!r}"
        kept = {f"{STATE}{part}/{sha256}" for part in ("store", "spare") for sha256 in release.digests.values()}
        for path in sorted(kept):
            yield from self.is_one_of(listing, path, {path.rpartition("/")[2]})
        ours = kept | {BIN + plugin for plugin in PLUGINS} | {CONFLIST, STATE + "ledger.json", STATE + "lock"}
        for path in sorted(listing.files.keys() - ours):
            yield f"{path} is left over"

    def is_one_of(self, listing, path, right):
        found = listing.files.get(path)
        if found in right:
            return
        if found is None:
            yield f"{path} is missing"
        elif found == EMPTY:
            yield f"{path} is empty"
        else:
            yield f"{path} is torn or another's: it has sha256 {found[:12]}"


class Machine:
    """One boot. The power fails in the middle of it, or only at its end."""

    def __init__(self, arguments, images, notes, fails, rng, judge):
        self.notes = notes
        self.began = time.monotonic()
        self.noted = []
        notes.told = self.note
        self.judge = judge
        self.changes = 0
        # The power fails before this change of the disk: while the machine starts, or so many changes after that.
        self.last_change, self.later = None, None
        if fails and rng.random() < 0.25:
            self.last_change = rng.randint(1, START)
        elif fails:
            self.later = rng.randint(1, WORK)
        self.fails = fails
        self.failed = False
        self.wrong = []
        self.console = []
        self.moments = []
        self.image = images["disk"]
        self.began_with = str(notes)
        self.work = tempfile.TemporaryDirectory(prefix="power-cuts-", dir=arguments.work)
        socket = Path(self.work.name) / "disk"
        self.server = disk.Server(socket, images | {"notes": notes}, self.before_change)
        rounds = ROUNDS if fails else 0
        words = f"{arguments.append} fs={arguments.fs} seed={rng.randrange(1, 1 << 31)} rounds={rounds}"
        command = [*arguments.emulator, "-append", words]
        for name in ("disk", "notes"):
            drive = f"driver=raw,if=virtio,cache=writeback,file.driver=nbd,file.server.type=unix,file.export={name}"
            command += ["-drive", f"{drive},file.server.path={socket}"]
        pipe = subprocess.PIPE
        self.emulator = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True, errors="replace"
        )

    def note(self, text):
        if text.startswith("working") and self.later:
            self.last_change = self.changes + self.later
        self.noted.append(f"{time.monotonic() - self.began:6.1f} s, change {self.changes:4}: {text}")

    def before_change(self, image):
        """Counts the changes of the disk, and kills the machine before the last one."""
        if self.failed:
            raise disk.PowerFailed
        if image is self.image:
            self.changes += 1
            if self.changes == self.last_change:
                self.fail_power()
                raise disk.PowerFailed

    def fail_power(self):
        self.failed = True
        self.emulator.kill()

    def run(self):
        """Reads what the machine prints, until it is dead."""
        timer = threading.Timer(LONGEST, self.emulator.kill)
        timer.start()
        lines = None
        for line in self.emulator.stdout:
            line = line.rstrip("\r\n")
            self.console.append(line)
            if line.startswith("list "):
                moment, lines = line.removeprefix("list "), []
            elif line == "end" and lines is not None:
                self.moments.append(moment)
                note = self.began_with if moment == "found" else str(self.notes)
                self.wrong += [f"{moment}: {wrong}" for wrong in self.judge.judge(moment, note, Listing(lines))]
                lines = None
            elif lines is not None:
                lines.append(line)
        timer.cancel()
        self.emulator.wait()
        self.server.close()
        self.work.cleanup()
        done = "power-cuts: done" in self.console
        if not self.failed and not (done and not self.fails):
            self.wrong.append("the machine ended by itself, or took too long; see its console")
        return self


def make_image(fs, path):
    """An empty file system, of about the least size that each of them takes."""
    with open(path, "wb") as file:
        file.truncate(320 << 20)
    quiet = {"ext4": ["-q"], "xfs": ["-q"], "btrfs": ["-q"]}[fs]
    subprocess.run([f"mkfs.{fs}", *quiet, path], check=True)


def cut_power(arguments, judge):
    """Returns whether all was well."""
    began = time.monotonic()
    image = arguments.work / f"{arguments.fs}.img"
    make_image(arguments.fs, image)
    content = disk.Disk(image)
    notes = disk.Notes()
    notes.write(0, b"none a".ljust(disk.SECTOR), True)
    seen = {}
    for cut in range(1, arguments.cuts + 2):
        rng = random.Random(f"{arguments.seed} {arguments.fs} {cut}")
        fails = cut <= arguments.cuts
        machine = Machine(arguments, {"disk": content}, notes, fails, rng, judge).run()
        if machine.wrong:
            report(arguments, cut, machine, content)
            return False
        if not fails:
            break
        fate = content.lose_power(rng)
        word = str(notes).split()[0]
        seen[word] = seen.get(word, 0) + 1
        if arguments.verbose:
            print(f"cut {cut}: before change {machine.changes}, while '{notes}'; {fate}", flush=True)
    cuts = ", ".join(f"{count} while {word}" for word, count in sorted(seen.items()))
    print(f"{arguments.fs}: {arguments.cuts} power cuts, nothing wrong ({cuts}), in {time.monotonic() - began:.0f} s")
    image.unlink()
    return True


def report(arguments, cut, machine, content):
    kept = arguments.failed
    kept.mkdir(parents=True, exist_ok=True)
    content.save(kept / "disk.img")
    (kept / "console").write_text("\n".join(machine.console) + "\n")
    print("\n".join(line for line in machine.console[-30:] if not line.startswith(("file ", "list ", "end"))))
    print("\n".join(machine.noted))
    print(f"\n{arguments.fs}: wrong after cut {cut - 1}, which came while '{machine.began_with}':")
    for wrong in machine.wrong:
        print(f"  {wrong}")
    print(f"The disk and the console are in {kept}. Again: --fs {arguments.fs} --seed {arguments.seed} --cuts {cut - 1}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fs", required=True)
    parser.add_argument("--cuts", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--releases", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--failed", type=Path, required=True)
    parser.add_argument("--append", required=True)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("emulator", nargs="+")
    arguments = parser.parse_args()
    releases = [Release(name, arguments.releases / f"{name}.tgz") for name in "ab"]
    sys.exit(0 if cut_power(arguments, Judge(releases)) else 1)


if __name__ == "__main__":
    main()
