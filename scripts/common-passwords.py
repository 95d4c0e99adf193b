#!/usr/bin/env python3
"""Makes src/domain/password/common/common.txt, the list of common passwords: docs/decisions/0002-common-passwords.md.

Downloads its sources from PyPI and npm in fixed versions, so it needs pip, npm and a network. The output depends on nothing else.
"""

import ast
import gzip
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
from pathlib import Path

DJANGO = "django==5.2.19"
FAKER = "faker==40.63.0"
ZXCVBN = "zxcvbn==4.5.0"
COMMON = "@zxcvbn-ts/language-common@4.1.3"
ENGLISH = "@zxcvbn-ts/language-en@4.1.1"

ROOT = Path(__file__).resolve().parent.parent
OWN = ROOT / "scripts/common-passwords-own.txt"
OUTPUT = ROOT / "src/domain/password/common/common.txt"

# Shorter ones are covered by the rules for short stems, and no longer one is looked up.
MIN_LENGTH, MAX_LENGTH = 4, 24

# English words and surnames: only the long ones are passwords by themselves.
MIN_WORD = 6
SURNAMES = 40_000

# As `fold` in src/domain/password/common/fold.rs; a test there compares them.
DIACRITICS = str.maketrans("ёşçğıöüâîûáàéèêëíìóòôúùñäå", "\u0435scgiouaiuaaeeeeiiooouunaa")
REMOVED = str.maketrans("", "", "'’‘ʻʼ`´\u0307")

# The Latin and the Cyrillic letters of the same keys.
LATIN_KEYS = "qwertyuiop[]asdfghjkl;'zxcvbnm,."
CYRILLIC_KEYS = "йцукенгшщзхъфывапролджэячсмитьбю"
TO_LATIN_KEYS = str.maketrans(CYRILLIC_KEYS + "ё", LATIN_KEYS + "`")


def fold(text: str) -> str:
    text = unicodedata.normalize("NFC", text.strip().lower())
    return text.translate(REMOVED).translate(DIACRITICS)


def wheel(requirement: str, folder: str) -> zipfile.ZipFile:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder]
    subprocess.run([*command, requirement], check=True)
    (path,) = Path(folder).glob("*.whl")
    return zipfile.ZipFile(io.BytesIO(path.read_bytes()))


def npm(package: str, folder: str) -> dict[str, list[str]]:
    """The lists of a package of zxcvbn-ts, by their names."""
    command = ["npm", "pack", "--silent", "--pack-destination", folder, package]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (path,) = Path(folder).glob("*.tgz")
    lists = {}
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            name = re.fullmatch(r"package/src/(\w+)\.json", member.name)
            if name:
                lists[name[1]] = json.load(archive.extractfile(member))
    return lists


def strings_of(source: bytes, names: str) -> set[str]:
    """The string literals of the tuples and dictionaries of a Python file whose names match, without running it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and re.search(names, target.id) for target in targets):
                literals = (child for child in ast.walk(node) if isinstance(child, ast.Constant))
                found.update(child.value for child in literals if isinstance(child.value, str))
    return found


def sources() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        archive = wheel(DJANGO, folder)
        text = gzip.decompress(archive.read("django/contrib/auth/common-passwords.txt.gz")).decode()
        found["django"] = set(text.split("\n"))
    with tempfile.TemporaryDirectory() as folder:
        archive = wheel(FAKER, folder)
        names: set[str] = set()
        for language in ("uz_UZ", "ru_RU", "tr_TR"):
            names |= strings_of(archive.read(f"faker/providers/person/{language}/__init__.py"), "^(first|last)_names")
        names |= strings_of(archive.read("faker/providers/address/ru_RU/__init__.py"), "^(city_names|region_names)")
        found["faker"] = {name for name in names if "{" not in name}
    with tempfile.TemporaryDirectory() as folder:
        found["zxcvbn-ts passwords"] = set(npm(COMMON, folder)["passwords"])
    with tempfile.TemporaryDirectory() as folder:
        english = npm(ENGLISH, folder)
        found["zxcvbn-ts first names"] = set(english["firstnames"])
        words = english["wikipedia"] + english["lastnames"][:SURNAMES]
        found["zxcvbn-ts words"] = {word for word in words if len(word) >= MIN_WORD}
    with tempfile.TemporaryDirectory() as folder:
        source = wheel(ZXCVBN, folder).read("zxcvbn/frequency_lists.py").decode()
        lists = {name: words.split(",") for name, words in re.findall(r'"(\w+)": "(.*)"\.split', source)}
        found["zxcvbn first names"] = set(lists["female_names"] + lists["male_names"])
        found["zxcvbn words"] = {word for word in lists["us_tv_and_film"] if len(word) >= MIN_WORD}
    lines = OWN.read_text(encoding="utf-8").splitlines()
    own = {word for line in lines if not line.startswith("#") for word in line.split()}
    found["own"] = own
    # Typed on a keyboard that is set to the other alphabet.
    found["own, other layout"] = {word.translate(TO_LATIN_KEYS) for word in own if re.search("[а-яё]", word)}
    return found


def main() -> None:
    found = sources()
    folded = {name: {fold(word) for word in words} for name, words in found.items()}
    every = set().union(*folded.values())
    kept = {word for word in every if MIN_LENGTH <= len(word) <= MAX_LENGTH and word.isprintable()}

    def is_covered(word: str) -> bool:
        """Whether the rule for digits and punctuation at the end refuses it anyway."""
        stem = re.fullmatch(r"(.*?[^\W\d_])[\W\d_]{1,4}", word)
        return bool(stem) and len(stem[1]) >= MIN_LENGTH and stem[1] in kept

    lines = sorted((word for word in kept if not is_covered(word)), key=lambda word: word.encode())
    OUTPUT.write_bytes("".join(f"{line}\n" for line in lines).encode())
    for name, words in folded.items():
        print(f"{name}: {len(words)}")
    print(f"all: {len(every)}; of {MIN_LENGTH} to {MAX_LENGTH} characters: {len(kept)}; lines: {len(lines)}; ", end="")
    print(f"{OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
