#!/usr/bin/env python3
"""Builds the demonstration model's training text.

    prepare_corpus.py --books DIR --stories FILE... --out corpus.txt

DIR holds plain-text children's books from Project Gutenberg (headers stripped); FILE holds simple
short stories separated by <|endoftext|>. Books are cut into passages of about 1,400 characters at
paragraph ends; the simple stories are repeated four times so that the model learns whole plots.
"""
import argparse
import glob
import os
import random
import re


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def worth_keeping(paragraph):
    """False for headings, captions, and what is left of the publisher's notes."""
    return (len(paragraph) > 40 and not paragraph.isupper()
            and "gutenberg" not in paragraph.lower() and "[Illustration" not in paragraph)


def passages(path):
    text = read(path).replace("\r", "").replace("_", "")
    for old, new in (("“", '"'), ("”", '"'), ("’", "'"), ("‘", "'"), ("—", "--")):
        text = text.replace(old, new)
    kept, size = [], 0
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = re.sub(r"\s+", " ", paragraph).strip()
        if not worth_keeping(paragraph):
            continue
        kept.append(paragraph)
        size += len(paragraph)
        if size > 1400:
            yield "\n".join(kept)
            kept, size = [], 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--books", required=True)
    parser.add_argument("--stories", nargs="+", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    rng = random.Random(7)
    stories = []
    for path in args.stories:
        for story in read(path).split("<|endoftext|>"):
            if len(story.strip()) > 100:
                stories.append(re.sub(r"\n+", "\n", story.strip()))
    book_paths = sorted(glob.glob(os.path.join(args.books, "*.txt")))
    books = [passage for path in book_paths for passage in passages(path)]
    rng.shuffle(stories)
    rng.shuffle(books)
    held, train = stories[:60] + books[:60], stories[60:] * 4 + books[60:]
    rng.shuffle(held)
    rng.shuffle(train)
    with open(args.out, "w", encoding="utf-8") as f:
        f.write("\n<|endoftext|>\n".join(held + train))


if __name__ == "__main__":
    main()
