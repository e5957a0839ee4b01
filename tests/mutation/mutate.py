#!/usr/bin/env python3
"""Breaks the library on purpose, one small change (a mutant) at a time: which test notices?

  python3 tests/mutation/mutate.py --check          each mutant's text is in the sources, once
                                                    (ctest runs this: mutation.list)
  python3 tests/mutation/mutate.py relu merge       the mutants with that in their names
  python3 tests/mutation/mutate.py --jobs 8         all of them, eight at a time

The mutants are in mutants.txt, which says how to write one. Nothing in the checkout changes: the
sources are copied to a scratch folder, and each mutant is built and tested there, with the kernels
for AVX2 and the scalar fallback alone unless --all-targets is given. A mutant is killed where a
test fails, crashes, or does not end. First run the tests that the list names, then the fast suite:
all of bn2d_core_tests and bn2d_capi_tests. On two cores of 2023 a mutant takes some seconds, half a
minute where kernels are compiled, and a minute more if it survives; --scratch and ccache save the
next run the first build.

Ends with 0 where all mutants were killed, with 1 where one survived, with 2 where the list does not
fit the sources or a mutant does not compile.
"""

import argparse
import concurrent.futures
import os
import pathlib
import queue
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COPIED = [
    "CMakeLists.txt",
    "LICENSE",
    "README.md",
    "bench",
    "capi",
    "cmake",
    "include",
    "src",
    "tests",
]
PROGRAMS = {
    "core": "bn2d_core_tests",
    "capi": "bn2d_capi_tests",
    "state": "state/bn2d_state_tests",
    "fold": "fold/bn2d_fold_tests",
}
FAST_SUITE = [("core", ""), ("capi", "~[.]")]
SECONDS_TO_HANG = 300


class Mutant:
    def __init__(self, name, line):
        self.name, self.line = name, line
        self.file = self.breaks = self.simd = ""
        self.tests, self.find, self.put = [], [], []

    def pattern(self):
        # Any white space for white space: the formatter may break lines elsewhere.
        return re.compile(r"\s+".join(re.escape(word) for word in " ".join(self.find).split()))

    def fault(self):
        """What is wrong with the mutant itself, or ''."""
        if not (self.file and self.breaks and self.tests and self.find):
            return "file, breaks, test or the text to find is missing"
        path = ROOT / self.file
        if not path.is_file():
            return f"no file {self.file}"
        count = len(self.pattern().findall(path.read_text()))
        if count != 1:
            return f"text found {count} times in {self.file}, must be once: {' '.join(self.find)}"
        return ""

    def applied(self, text):
        put = "\n".join(self.put)
        return self.pattern().sub(lambda _: put, text)


def read_mutants(path):
    mutants = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        key, _, value = line.partition(" ")
        if key == "mutant":
            mutants.append(Mutant(value.strip(), number))
            continue
        if not mutants:
            sys.exit(f"{path}:{number}: before the first mutant")
        m = mutants[-1]
        if key == "-":
            m.find.append(value)
        elif key == "+":
            m.put.append(value)
        elif key == "test":
            program, _, spec = value.strip().partition(" ")
            m.tests.append((program, spec))
        elif key in ("file", "breaks", "simd"):
            setattr(m, key, value.strip())
        else:
            sys.exit(f"{path}:{number}: unknown key {key!r}")
    names = [m.name for m in mutants]
    for m in mutants:
        if names.count(m.name) > 1 or any(program not in PROGRAMS for program, _ in m.tests):
            sys.exit(f"{path}:{m.line}: {m.name}: name taken twice, or unknown test program")
    return mutants


def check(mutants):
    faults = [(m, m.fault()) for m in mutants]
    for m, fault in faults:
        if fault:
            print(f"mutants.txt:{m.line}: {m.name}: {fault}")
    return all(not fault for _, fault in faults)


class Tree:
    """A copy of the sources and its build."""

    def __init__(self, folder, jobs, all_targets):
        self.source, self.build, self.jobs = folder / "source", folder / "build", jobs
        self.copy_sources()
        flags = "-w" if all_targets else "-w -DBN2D_FEWER_TARGETS"
        self.environment = dict(os.environ)
        command = [
            "cmake",
            "-S",
            self.source,
            "-B",
            self.build,
            "-DCMAKE_BUILD_TYPE=Release",
            "-DBN2D_WERROR=OFF",
            "-DBN2D_INSTALL=OFF",
            f"-DCMAKE_CXX_FLAGS={flags}",
        ]
        if shutil.which("ninja"):
            command += ["-G", "Ninja"]
        if shutil.which("ccache"):
            command += [
                "-DCMAKE_C_COMPILER_LAUNCHER=ccache",
                "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache",
            ]
            self.environment.update(CCACHE_BASEDIR=str(folder), CCACHE_NOHASHDIR="1")
        self.run(command)

    def copy_sources(self):
        def copy(source, target):  # what has not changed is not built again
            if not os.path.exists(target) or open(source, "rb").read() != open(target, "rb").read():
                shutil.copyfile(source, target)

        for name in COPIED:
            for kept in list((self.source / name).rglob("*")):  # of a run before
                if kept.is_file() and not (ROOT / kept.relative_to(self.source)).exists():
                    kept.unlink()
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, self.source / name, copy_function=copy, dirs_exist_ok=True
                )
            else:
                self.source.mkdir(parents=True, exist_ok=True)
                copy(ROOT / name, self.source / name)

    def run(self, command):
        done = subprocess.run(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            sys.exit(f"{shlex.join(map(str, command))} failed:\n{done.stdout[-4000:]}")

    def compiles(self):
        command = [
            "cmake",
            "--build",
            self.build,
            "-j",
            str(self.jobs),
            "--target",
            *(os.path.basename(program) for program in PROGRAMS.values()),
        ]
        return subprocess.run(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def first_failure(self, program, spec, simd):
        """The test that fails first, or ''."""
        command = [
            self.build / "tests" / PROGRAMS[program],
            "--abort",
            "-r",
            "xml",
            *([spec] if spec else []),
        ]
        environment = dict(self.environment, **({"BN2D_SIMD": simd} if simd else {}))
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=SECONDS_TO_HANG,
                cwd=self.build,
            )
        except subprocess.TimeoutExpired as hung:
            return "does not end in " + (last_test(hung.stdout or b"") or f"{program} {spec}")
        cases = last_test(done.stdout)
        if not cases:
            sys.exit(f"{program} has no test {spec!r}")
        if done.returncode == 0:
            return ""
        return cases + (f" (signal {-done.returncode})" if done.returncode < 0 else "")

    def verdict(self, mutant):
        path = self.source / mutant.file
        original = path.read_text()
        try:
            path.write_text(mutant.applied(original))
            if self.compiles().returncode != 0:
                return "does not compile"
            for program, spec in mutant.tests:
                killer = self.first_failure(program, spec, mutant.simd)
                if killer:
                    return "killed by " + killer
            for program, spec in FAST_SUITE:
                killer = self.first_failure(program, spec, mutant.simd)
                if killer:
                    return "killed, not by what the list names, but by " + killer
            return "SURVIVED"
        finally:
            path.write_text(original)


def last_test(xml):
    names = re.findall(rb'<TestCase name="([^"]*)"', xml)
    return names[-1].decode().replace("&lt;", "<").replace("&amp;", "&") if names else ""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", help="mutants to run; a part of a name is enough; default: all"
    )
    parser.add_argument(
        "--check", action="store_true", help="only look for the texts in the sources"
    )
    parser.add_argument("--list", action="store_true", help="print the mutants")
    parser.add_argument(
        "--jobs", type=int, default=1, help="copies of the tree that are worked on at a time"
    )
    parser.add_argument(
        "--all-targets", action="store_true", help="build the kernels of all SIMD targets"
    )
    parser.add_argument(
        "--scratch", type=pathlib.Path, help="folder for the copies, kept for the next run"
    )
    arguments = parser.parse_args()

    mutants = [
        m
        for m in read_mutants(HERE / "mutants.txt")
        if not arguments.names or any(name in m.name for name in arguments.names)
    ]
    if not mutants:
        sys.exit("no mutant has such a name")
    if not check(mutants):
        return 2
    if arguments.list or arguments.check:
        for m in mutants if arguments.list else []:
            print(f"{m.name:34} {m.file:36} {m.breaks}")
        print(f"{len(mutants)} mutants fit the sources")
        return 0

    if not arguments.all_targets:
        mutants = [m for m in mutants if m.simd in ("", "SCALAR", "AVX2")]
        if not mutants:
            sys.exit("none without --all-targets")
    scratch = arguments.scratch or pathlib.Path(tempfile.mkdtemp(prefix="bn2d-mutants-"))
    trees = queue.Queue()
    try:
        jobs = min(arguments.jobs, len(mutants))
        for k in range(jobs):
            tree = Tree(
                scratch / str(k), max((os.cpu_count() or 1) // jobs, 1), arguments.all_targets
            )
            built = tree.compiles()
            if built.returncode != 0:
                sys.exit(f"the sources do not build:\n{built.stdout[-4000:]}")
            trees.put(tree)
        for simd in sorted({m.simd for m in mutants}):
            for program, spec in FAST_SUITE:
                failure = tree.first_failure(program, spec, simd)
                if failure:
                    sys.exit(f"fails without a mutant: {failure}")

        def one(mutant):
            tree, start = trees.get(), time.monotonic()
            try:
                verdict = tree.verdict(mutant)
            finally:
                trees.put(tree)
            print(f"{mutant.name:34} {verdict}  [{time.monotonic() - start:.0f} s]", flush=True)
            return verdict

        pool = concurrent.futures.ThreadPoolExecutor(jobs)
        try:
            verdicts = list(pool.map(one, mutants))
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt does not wait for all that are left
    finally:
        if not arguments.scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    killed = sum(v.startswith("killed") for v in verdicts)
    survived, broken = verdicts.count("SURVIVED"), verdicts.count("does not compile")
    print(
        f"{len(verdicts)} mutants: {killed} killed, {survived} survived, {broken} did not compile"
    )
    return 2 if broken else 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
