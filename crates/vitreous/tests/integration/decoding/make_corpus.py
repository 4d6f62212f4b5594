#!/usr/bin/env python3
"""Writes corpus.tar.gz and corpus.tsv next to this script: small images of every kind in the four formats, and the
result of an independent decoder for each.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 numpy imagecodecs==2026.3.6
    apt-get install libjpeg-turbo-progs imagemagick webp
    venv/bin/python make_corpus.py

Encoders: libjpeg-turbo 2.1.5 (cjpeg), 3.1.3 (imagecodecs) and 3.2.0 (Pillow 13.0.0), ImageMagick 6.9.11, libpng and
libspng (imagecodecs), libwebp 1.2.4 (cwebp) and 1.6.0 (Pillow), and for forms that no encoder writes the functions
below, which take files apart and put them together in another way.

Decoders: Pillow (libjpeg-turbo, libpng-free PNG, libwebp), and ImageMagick for 16-bit PNG and for kinds of BMP that
Pillow does not read. Pixels are composed over white and turned as EXIF says.

A row of corpus.tsv: name, file of the reference pixels, largest and mean difference that is allowed; or name,
`refused`, and the words of the error.
"""
import gzip
import hashlib
import io
import struct
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent
WORK = Path(tempfile.mkdtemp())
FILES, ROWS = {}, []


# ---- pictures and references


def picture(width, height):
    """Smooth colors with a fine texture: a swapped channel, a shifted block or a lost row is far from it."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    u, v = x / max(width, 2), y / max(height, 2)
    red = 128 + 90 * np.sin(5 * u + 1) * np.cos(3 * v)
    green = 110 + 80 * np.cos(4 * u - 2 * v)
    blue = 120 + 100 * np.sin(2 + 3 * v + u * 2)
    texture = 12 * np.sin(x * 1.3 + y * 0.7)
    return np.clip(np.stack([red + texture, green + texture, blue + texture], -1), 0, 255).round().astype(np.uint8)


def ppm(pixels):
    return b"P6\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.astype(np.uint8).tobytes()


def on_white(rgba):
    """Composes channels from 0 to 1."""
    alpha = rgba[:, :, 3:]
    return np.floor(255 * (rgba[:, :, :3] * alpha + 1 - alpha) + 0.5)


def by_pillow(data):
    image = Image.open(io.BytesIO(data))
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return on_white(np.asarray(image.convert("RGBA")) / 255)
    return np.asarray(image.convert("RGB")).astype(float)


def by_imagemagick(data, kind):
    size = subprocess.run(["identify-im6.q16", "-format", "%w %h", f"{kind}:-"], input=data, capture_output=True)
    width, height = map(int, size.stdout.split())
    raw = subprocess.run(
        ["convert-im6.q16", f"{kind}:-", "-depth", "16", "-endian", "LSB", "RGBA:-"], input=data, capture_output=True
    ).stdout
    return on_white(np.frombuffer(raw, "<u2").reshape(height, width, 4) / 65535)


def add(name, data, most=5, mean=0.6, decoder=by_pillow):
    """Adds an image that must be decoded to what `decoder` makes of it."""
    assert data, name
    reference = ppm(decoder(data))
    place = f"pixels/{hashlib.sha256(reference).hexdigest()[:12]}.ppm"
    FILES[place] = reference
    FILES[f"images/{name}"] = data
    ROWS.append((name, place, str(most), str(mean)))


def refuse(name, data, words):
    FILES[f"images/{name}"] = data
    ROWS.append((name, "refused", words))


def run(arguments, data):
    done = subprocess.run(arguments, input=data, capture_output=True)
    assert done.returncode == 0 and done.stdout, (arguments, done.stderr)
    return done.stdout


# ---- JPEG


def cjpeg(pixels, *arguments, scans=None, quality=90):
    arguments = ["cjpeg", "-quality", str(quality), *arguments]
    if scans:
        (WORK / "scans").write_text(scans)
        arguments += ["-scans", str(WORK / "scans")]
    return run(arguments, ppm(pixels))


def segments(data):
    """Takes a JPEG apart: [marker, segment, compressed data behind it]."""
    parts, at = [], 2
    while data[at + 1] != 0xD9:
        length = struct.unpack(">H", data[at + 2 : at + 4])[0]
        marker, body, at = data[at + 1], data[at + 4 : at + 2 + length], at + 2 + length
        end = at
        while marker == 0xDA and not (data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))):
            end += 1
        parts.append([marker, body, data[at:end]])
        at = end
    return parts


def joined(parts, fill=b"", tail=b""):
    data = b"\xff\xd8"
    for marker, body, compressed in parts:
        data += fill + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + compressed
    return data + b"\xff\xd9" + tail


def before_scan(parts, number, part):
    scans = [place for place, (marker, *_) in enumerate(parts) if marker == 0xDA]
    return parts[: scans[number]] + [part] + parts[scans[number] :]


def with_ids(parts, ids):
    parts = [[marker, bytearray(body), data] for marker, body, data in parts]
    for marker, body, _ in parts:
        if marker in (0xC0, 0xC2):
            body[6::3] = ids
        if marker == 0xDA:
            for place in range(body[0]):
                body[1 + 2 * place] = ids[body[1 + 2 * place] - 1]
    return parts


SCANS = {"1": None, "3": "0;\n1;\n2;\n", "1+2": "0;\n1,2;\n", "2+1": "0,1;\n2;\n", "reversed": "2;\n1;\n0;\n"}
PROGRESSIVE = {
    "default": None,
    "spectral": "0: 0-0, 0, 0;\n1: 0-0, 0, 0;\n2: 0-0, 0, 0;\n0: 1-63, 0, 0;\n1: 1-63, 0, 0;\n2: 1-63, 0, 0;\n",
    "refined": "0: 0-0, 0, 2;\n1,2: 0-0, 0, 1;\n1: 1-63, 0, 0;\n2: 1-63, 0, 0;\n0: 1-63, 0, 3;\n0: 0-0, 2, 1;\n"
    "0: 0-0, 1, 0;\n1: 0-0, 1, 0;\n2: 0-0, 1, 0;\n0: 1-63, 3, 2;\n0: 1-63, 2, 1;\n0: 1-63, 1, 0;\n",
}
COMMENT = [0xFE, b"a comment", b""]
JFIF = [0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0", b""]


def adobe(transform):
    return [0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]), b""]


def exif(orientation, order="<"):
    mark = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    return mark + struct.pack(order + "HHHIHHI", 1, 0x112, 3, 1, orientation, 0, 0)


def jpeg_sampling(pixels):
    usual = ["1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2", "2x4"]
    mixed = ["2x2,1x2,1x2", "2x2,2x1,2x1", "2x2,2x1,1x2", "2x2,1x1,2x2", "2x1,2x1,2x1", "1x2,1x2,1x2"]
    finer = ["1x1,2x2,2x2", "1x1,2x1,2x1", "1x1,1x2,1x2", "1x1,2x2,1x1", "1x1,1x1,2x1", "1x2,2x1,2x1", "2x1,1x2,1x2"]
    for factors in usual + mixed + finer + ["3x1", "1x3", "3x2", "1x1,3x1,3x1"]:
        name = factors.replace(",", "_")
        for scans, script in SCANS.items():
            add(f"jpeg-{name}-scans-{scans}.jpg", cjpeg(pixels, "-sample", factors, scans=script))
        add(f"jpeg-{name}-progressive.jpg", cjpeg(pixels, "-sample", factors, "-progressive"))
    for factors in ["1x1", "2x2", "2x1,1x1,2x1"]:
        for script in ["spectral", "refined"]:
            name = f"jpeg-{factors.replace(',', '_')}-{script}.jpg"
            add(name, cjpeg(pixels, "-sample", factors, scans=PROGRESSIVE[script]))
    for factors in ["4x1,1x1,2x2", "1x4,1x2,1x2", "4x1,1x2,1x1", "1x1,1x1,1x4"]:
        name = factors.replace(",", "_")
        add(f"jpeg-{name}.jpg", cjpeg(pixels, "-sample", factors))
    # Only in one scan, or progressive.
    for factors in ["4x1,2x1,2x1", "4x2,1x1,1x2"]:
        name = factors.replace(",", "_")
        add(f"jpeg-{name}-progressive.jpg", cjpeg(pixels, "-sample", factors, scans=PROGRESSIVE["spectral"]))
    add("jpeg-4x1_2x1_2x1.jpg", cjpeg(pixels, "-sample", "4x1,2x1,2x1"))
    refuse(
        "jpeg-4x1_2x1_2x1-scans-3.jpg",
        cjpeg(pixels, "-sample", "4x1,2x1,2x1", scans=SCANS["3"]),
        "JPEG with the sampling factors 4x1, 2x1, 2x1 is not supported",
    )


def jpeg_scans(pixels):
    narrow = picture(16, 24)
    for factors in ["1x1", "2x1", "2x2"]:
        for interval in ["1B", "7B", "1"]:
            for scans in ["1", "3", "1+2"]:
                data = cjpeg(pixels, "-sample", factors, "-restart", interval, scans=SCANS[scans])
                add(f"jpeg-{factors}-restart-{interval}-scans-{scans}.jpg", data)
            data = cjpeg(pixels, "-sample", factors, "-restart", interval, "-progressive")
            add(f"jpeg-{factors}-restart-{interval}-progressive.jpg", data)
        for quality in [1, 10, 100]:
            add(f"jpeg-{factors}-quality-{quality}.jpg", cjpeg(pixels, "-sample", factors, quality=quality))
            data = cjpeg(pixels, "-sample", factors, quality=quality, scans=SCANS["3"])
            add(f"jpeg-{factors}-quality-{quality}-scans-3.jpg", data)
        # Few bits in the last row of blocks, and what may follow them.
        for kind, arguments in [("sequential", []), ("progressive", ["-progressive"])]:
            parts = segments(cjpeg(narrow, "-sample", factors, *arguments, quality=1))
            name = f"jpeg-{factors}-{kind}"
            add(f"{name}-few-bits.jpg", joined(parts))
            add(f"{name}-comment-at-end.jpg", joined(parts + [COMMENT]))
            add(f"{name}-comment-before-scan.jpg", joined(before_scan(parts, -1, COMMENT)))
            add(f"{name}-fill-bytes.jpg", joined(parts, fill=b"\xff\xff\xff"))
            add(f"{name}-tail.jpg", joined(parts, tail=b"and more"))
        parts = segments(cjpeg(pixels, "-sample", factors, scans=SCANS["3"]))
        add(f"jpeg-{factors}-comment-between-scans.jpg", joined(before_scan(parts, 1, COMMENT)))
        # The last channel has restart intervals, the others have none.
        with_restarts = segments(cjpeg(pixels, "-sample", factors, "-restart", "2B", scans=SCANS["3"]))
        interval = next(part for part in with_restarts if part[0] == 0xDD)
        last_scan = [interval, with_restarts[-1]]
        add(f"jpeg-{factors}-restart-in-last-scan.jpg", joined(parts[:-1] + last_scan))
    for width, height in [(1, 1), (2, 3), (8, 8), (9, 7), (16, 16), (17, 15), (3, 40), (40, 3)]:
        for factors in ["1x1", "2x2", "1x2"]:
            small = picture(width, height)
            # In few pixels libjpeg leaves out its smooth upsampling.
            bounds = dict(most=40, mean=9) if min(width, height) < 8 else dict(most=10, mean=1)
            add(f"jpeg-{factors}-{width}x{height}.jpg", cjpeg(small, "-sample", factors), **bounds)
            data = cjpeg(small, "-sample", factors, scans=SCANS["3"])
            add(f"jpeg-{factors}-{width}x{height}-scans-3.jpg", data, **bounds)


def jpeg_colors(pixels):
    for factors in ["1x1", "2x2", "4x2"]:
        for name, arguments in [("", []), ("-progressive", ["-progressive"]), ("-restart", ["-restart", "3B"])]:
            add(f"jpeg-gray-{factors}{name}.jpg", cjpeg(pixels, "-grayscale", "-sample", factors, *arguments))
    parts = segments(cjpeg(pixels, "-grayscale"))
    add("jpeg-gray-comment-at-end.jpg", joined(parts + [COMMENT]))
    parts = segments(cjpeg(pixels, "-grayscale"))
    for part in parts:
        if part[0] == 0xC0:
            part[1] = part[1][:7] + b"\x31" + part[1][8:]
    add("jpeg-gray-3x1.jpg", joined(parts))
    for factors in ["1x1", "2x2,1x1,1x1", "1x1,2x2,1x1"]:
        for name, arguments in [("", {}), ("-scans-3", dict(scans=SCANS["3"]))]:
            add(f"jpeg-rgb-{factors.replace(',', '_')}{name}.jpg", cjpeg(pixels, "-rgb", "-sample", factors, **arguments))
    # What markers say about the color space, also where they contradict each other.
    for scans in ["1", "3"]:
        parts = [part for part in segments(cjpeg(pixels, "-sample", "1x1", scans=SCANS[scans])) if part[0] != 0xE0]
        for ids in [(1, 2, 3), (0, 1, 2), b"RGB", b"rgb", (1, 34, 35)]:
            marked = with_ids(parts, ids)
            name = f"jpeg-colors-scans-{scans}-ids-{'-'.join(map(str, ids))}"
            add(f"{name}.jpg", joined(marked))
            add(f"{name}-jfif.jpg", joined([JFIF] + marked))
            for transform in [0, 1, 2]:
                add(f"{name}-adobe-{transform}.jpg", joined([adobe(transform)] + marked))
        add(f"jpeg-colors-scans-{scans}-jfif-adobe-0.jpg", joined([JFIF, adobe(0)] + parts))
        add(f"jpeg-colors-scans-{scans}-adobe-0-jfif.jpg", joined([adobe(0), JFIF] + parts))
    inks = np.dstack([255 - pixels, pixels[:, :, 0] // 3]).copy()
    image = Image.fromarray(inks, "CMYK")
    for name, options in [("", {}), ("-progressive", dict(progressive=True)), ("-restart", dict(restart_marker_blocks=2))]:
        data = io.BytesIO()
        image.save(data, "JPEG", quality=90, **options)
        add(f"jpeg-cmyk{name}.jpg", data.getvalue())
    for space in ["CMYK", "YCCK"]:
        for sampling in ["444", "422", "420"]:
            options = dict(level=90, colorspace="CMYK", outcolorspace=space, subsampling=sampling)
            parts = segments(imagecodecs.jpeg8_encode(inks, **options))
            name = f"jpeg-{space.lower()}-{sampling}"
            add(f"{name}.jpg", joined(parts))
            add(f"{name}-comment-at-end.jpg", joined(parts + [COMMENT]))
            add(f"{name}-no-adobe.jpg", joined([part for part in parts if part[0] != 0xEE]))
    image.save(WORK / "inks.tif")
    for interlace in ["None", "JPEG"]:
        data = run(["convert-im6.q16", str(WORK / "inks.tif"), "-quality", "90", "-interlace", interlace, "JPEG:-"], b"")
        add(f"jpeg-cmyk-imagemagick-{interlace}.jpg", data)


def jpeg_others(pixels):
    data = run(["convert-im6.q16", "PPM:-", "-quality", "90", "-sampling-factor", "2x2", "JPEG:-"], ppm(pixels))
    add("jpeg-imagemagick.jpg", data)
    for sampling in ["444", "422", "420", "411", "440"]:
        data = imagecodecs.jpeg8_encode(pixels, level=90, subsampling=sampling, optimize=True)
        add(f"jpeg-optimized-{sampling}.jpg", data)
    wide = picture(41, 24)
    for orientation in range(10):
        for order, byte_order in [("little", "<"), ("big", ">")]:
            part = [0xE1, b"Exif\0\0" + exif(orientation, byte_order), b""]
            add(f"jpeg-exif-{orientation}-{order}.jpg", joined([part] + segments(cjpeg(wide))))
    part = [0xE1, b"Exif\0\0" + exif(6), b""]
    add("jpeg-exif-6-scans-3.jpg", joined([part] + segments(cjpeg(wide, scans=SCANS["3"]))))
    words = "arithmetic-coded JPEG is not supported"
    refuse("jpeg-arithmetic.jpg", cjpeg(pixels, "-arithmetic"), words)
    refuse("jpeg-arithmetic-progressive.jpg", cjpeg(pixels, "-arithmetic", "-progressive"), words)
    words = "JPEG with 12 bits per channel is not supported (8 are)"
    deep = pixels.astype(np.uint16) * 16
    refuse("jpeg-12-bit.jpg", imagecodecs.jpeg8_encode(deep, level=90, bitspersample=12), words)
    refuse("jpeg-12-bit-gray.jpg", imagecodecs.jpeg8_encode(deep[:, :, 0].copy(), level=90, bitspersample=12), words)
    words = "lossless JPEG is not supported"
    refuse("jpeg-lossless.jpg", imagecodecs.jpeg8_encode(pixels, lossless=True), words)
    refuse("jpeg-lossless-16.jpg", imagecodecs.ljpeg_encode(deep[:, :, 0].copy(), bitspersample=16), words)

    def reframed(marker=0xC0, change=bytes):
        parts = segments(cjpeg(pixels, "-sample", "1x1"))
        return joined([[marker, change(body), data] if kind == 0xC0 else [kind, body, data] for kind, body, data in parts])

    refuse("jpeg-hierarchical.jpg", reframed(marker=0xC5), "hierarchical JPEG is not supported")
    words = "JPEG that states its height after its data is not supported"
    refuse("jpeg-height-after-data.jpg", reframed(change=lambda body: body[:1] + b"\0\0" + body[3:]), words)
    words = "JPEG with 2 channels is not supported (1, 3 and 4 are)"
    refuse("jpeg-2-channels.jpg", reframed(change=lambda body: body[:5] + b"\2" + body[6:12]), words)
    data = cjpeg(pixels)
    refuse("jpeg-cut-off.jpg", data[: len(data) // 2], "the file is cut off")
    parts = segments(cjpeg(pixels))
    refuse("jpeg-dac.jpg", joined([[0xCC, b"\0\0", b""]] + parts), "the JPEG data is damaged")


# ---- PNG


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def chunks(data):
    parts, at = [], 8
    while at < len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return parts


def png_of(parts):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in parts)


def with_chunk(data, name, body, after=b"IHDR"):
    """Puts a chunk behind the last of a name."""
    parts = [part for part in chunks(data) if part[0] != name]
    place = max(place for place, (kind, _) in enumerate(parts) if kind == after)
    return png_of(parts[: place + 1] + [(name, body)] + parts[place + 1 :])


def png_rows(samples, depth, is_interlaced):
    """Filters and packs rows of samples `[height, width, channels]`, every filter in turn."""

    def packed(rows):
        out = b""
        previous = None
        for number, row in enumerate(rows):
            if depth == 16:
                line = row.astype(">u2").tobytes()
            else:
                bits = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - depth :]
                line = np.packbits(bits.reshape(-1)).tobytes()
            line = np.frombuffer(line, np.uint8).astype(int)
            step = max(1, row.shape[-1] * depth // 8)
            left = np.concatenate([np.zeros(step, int), line])[: len(line)]
            above = np.zeros_like(line) if previous is None else previous
            corner = np.concatenate([np.zeros(step, int), above])[: len(line)]
            guess = left + above - corner
            near = np.stack([abs(guess - left), abs(guess - above), abs(guess - corner)])
            paeth = np.where(near.argmin(0) == 0, left, np.where(near.argmin(0) == 1, above, corner))
            predicted = [np.zeros_like(line), left, above, (left + above) // 2, paeth][number % 5]
            out += bytes([number % 5]) + ((line - predicted) % 256).astype(np.uint8).tobytes()
            previous = line
        return out

    if not is_interlaced:
        return packed(samples)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [samples[top::down, left::across] for top, left, down, across in passes]
    return b"".join(packed(part) for part in parts if part.size)


def png(samples, kind, depth, is_interlaced=False, extra=()):
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, int(is_interlaced))
    rows = zlib.compress(png_rows(samples, depth, is_interlaced), 9)
    half = len(rows) // 2
    data = [(b"IDAT", rows[:half]), (b"IDAT", b""), (b"IDAT", rows[half:])]
    return png_of([(b"IHDR", header), *extra, *data, (b"IEND", b"")])


def make_png():
    pixels = picture(23, 19)
    gray = pixels[:, :, :1]
    alpha = np.linspace(0, 255, 23 * 19).reshape(19, 23, 1).astype(np.uint8)
    palette = [(b"PLTE", bytes((37 * i * (channel + 3) + 91 * channel) % 256 for i in range(200) for channel in range(3)))]
    for laced in [False, True]:
        suffix = "-interlaced" if laced else ""
        for depth in [1, 2, 4, 8]:
            samples = gray >> (8 - depth)
            add(f"png-gray-{depth}{suffix}.png", png(samples, 0, depth, laced), most=0, mean=0)
            key = [(b"tRNS", struct.pack(">H", int(samples[5, 5, 0])))]
            data = png(samples, 0, depth, laced, key)
            add(f"png-gray-{depth}-key{suffix}.png", data, most=0, mean=0, decoder=lambda data: by_imagemagick(data, "png"))
            colors = [(b"PLTE", palette[0][1][: 3 << depth])]
            add(f"png-palette-{depth}{suffix}.png", png(samples, 3, depth, laced, colors), most=0, mean=0) if depth < 8 else None
            few = colors + [(b"tRNS", bytes([0, 128, 200][: 1 << depth]))]
            if depth < 8:
                add(f"png-palette-{depth}-alpha{suffix}.png", png(samples, 3, depth, laced, few), most=1, mean=0.5)
        samples = gray % 200
        add(f"png-palette-8{suffix}.png", png(samples, 3, 8, laced, palette), most=0, mean=0)
        some = palette + [(b"tRNS", bytes(range(0, 200, 2)))]
        add(f"png-palette-8-alpha{suffix}.png", png(samples, 3, 8, laced, some), most=1, mean=0.5)
        add(f"png-rgb-8{suffix}.png", png(pixels, 2, 8, laced), most=0, mean=0)
        key = [(b"tRNS", struct.pack(">HHH", *map(int, pixels[5, 5])))]
        add(f"png-rgb-8-key{suffix}.png", png(pixels, 2, 8, laced, key), most=0, mean=0)
        add(f"png-gray-alpha-8{suffix}.png", png(np.dstack([gray, alpha]), 4, 8, laced), most=1, mean=0.5)
        add(f"png-rgba-8{suffix}.png", png(np.dstack([pixels, alpha]), 6, 8, laced), most=1, mean=0.5)
        deep = pixels.astype(np.uint16) * 257 + 40 * (pixels % 5) - 80
        for name, kind, samples in [
            ("gray", 0, deep[:, :, :1]),
            ("rgb", 2, deep),
            ("gray-alpha", 4, np.dstack([deep[:, :, :1], alpha.astype(np.uint16) * 257])),
            ("rgba", 6, np.dstack([deep, alpha.astype(np.uint16) * 257])),
        ]:
            data = png(samples, kind, 16, laced)
            add(f"png-{name}-16{suffix}.png", data, most=1, mean=0.6, decoder=lambda data: by_imagemagick(data, "png"))
    exact = dict(most=0, mean=0)
    base = png(pixels, 2, 8)
    add("png-pillow.png", (Image.fromarray(pixels).save(WORK / "a.png"), (WORK / "a.png").read_bytes())[1], **exact)
    add("png-libspng.png", imagecodecs.spng_encode(pixels), **exact)
    add("png-libpng.png", imagecodecs.png_encode(pixels), **exact)
    for interlace in ["None", "PNG"]:
        data = run(["convert-im6.q16", "PPM:-", "-interlace", interlace, "-define", "png:exclude-chunks=date,tIME", "PNG24:-"], ppm(pixels))
        add(f"png-imagemagick-{interlace}.png", data, **exact)
    profile = b"a profile\0\0" + zlib.compress(bytes(200_000), 9)
    add("png-profile.png", with_chunk(base, b"iCCP", profile), **exact)
    add("png-bad-profile.png", with_chunk(base, b"iCCP", b"a profile\0\0no zlib"), **exact)
    add("png-gamma.png", with_chunk(base, b"gAMA", struct.pack(">I", 100_000)), **exact)
    add("png-srgb.png", with_chunk(base, b"sRGB", b"\0"), **exact)
    add("png-significant-bits.png", with_chunk(base, b"sBIT", b"\5\5\5"), **exact)
    add("png-background.png", with_chunk(png(np.dstack([pixels, alpha]), 6, 8), b"bKGD", b"\0\1\0\2\0\3"), most=1, mean=0.5)
    add("png-text.png", with_chunk(base, b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000), 9)), **exact)
    add("png-text-at-end.png", with_chunk(base, b"tEXt", b"Comment\0end", after=b"IDAT"), **exact)
    for orientation in range(1, 9):
        add(f"png-exif-{orientation}.png", with_chunk(base, b"eXIf", exif(orientation)), **exact)
    frames = [Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())]
    frames[0].save(WORK / "a.png", save_all=True, append_images=frames[1:], duration=90)
    add("png-animated.png", (WORK / "a.png").read_bytes(), **exact)
    frames[0].save(WORK / "a.png", save_all=True, append_images=frames[1:], duration=90, default_image=True)
    add("png-animated-default-image.png", (WORK / "a.png").read_bytes(), **exact)
    for size in [(1, 1), (1, 9), (9, 1), (5, 5)]:
        samples = picture(*size)
        for laced in [False, True]:
            name = f"png-{size[0]}x{size[1]}{'-interlaced' if laced else ''}.png"
            add(name, png(samples, 2, 8, laced), **exact)
    # An image of one pixel in a row, and a header that says more than the file can hold.
    thin = png_of([(b"IHDR", struct.pack(">IIBBBBB", 1, 10_000_000, 8, 0, 0, 0, 0)), *chunks(base)[1:]])
    refuse("png-thin.png", thin, "1x10000000 has a side of more than 65535 pixels")
    refuse("png-cut-off.png", base[: len(base) // 2], "the file is cut off")
    refuse("png-bad-checksum.png", base.replace(b"IDAT", b"IDAT\0", 1), "the PNG data is damaged")


# ---- WebP


def make_webp():
    pixels = picture(41, 35)
    alpha = np.linspace(0, 255, 41 * 35).reshape(35, 41, 1).astype(np.uint8)
    (WORK / "a.ppm").write_bytes(ppm(pixels))
    Image.fromarray(np.dstack([pixels, alpha])).save(WORK / "alpha.png")
    few = Image.fromarray(pixels).quantize(11).convert("RGB")
    few.save(WORK / "few.png")

    def cwebp(source, *arguments):
        return run(["cwebp", "-quiet", *arguments, str(WORK / source), "-o", "-"], b"")

    lossy = dict(most=8, mean=0.8)
    for quality in [0, 30, 90, 100]:
        add(f"webp-lossy-{quality}.webp", cwebp("a.ppm", "-q", str(quality)), **lossy)
    for name, arguments in [
        ("simple-filter", ["-nostrong", "-f", "60", "-q", "30"]),
        ("strong-filter", ["-strong", "-f", "100", "-sharpness", "7", "-q", "30"]),
        ("no-filter", ["-f", "0"]),
        ("one-segment", ["-segments", "1"]),
        ("partitions", ["-partition_limit", "50", "-m", "6"]),
        ("fast", ["-m", "0"]),
        ("sharp-yuv", ["-sharp_yuv"]),
    ]:
        add(f"webp-{name}.webp", cwebp("a.ppm", *arguments), **lossy)
    for name, arguments in [("", []), ("-raw", ["-alpha_method", "0"]), ("-coarse", ["-alpha_q", "30"]), ("-filter", ["-alpha_filter", "best"])]:
        add(f"webp-alpha{name}.webp", cwebp("alpha.png", "-q", "90", *arguments), **lossy)
    exact = dict(most=0, mean=0)
    for level in range(0, 10, 3):
        add(f"webp-lossless-{level}.webp", cwebp("a.ppm", "-z", str(level)), **exact)
    add("webp-near-lossless.webp", cwebp("a.ppm", "-near_lossless", "40"), **exact)
    add("webp-palette.webp", cwebp("few.png", "-lossless"), **exact)
    add("webp-lossless-alpha.webp", cwebp("alpha.png", "-lossless"), most=1, mean=0.5)
    add("webp-lossless-exact.webp", cwebp("alpha.png", "-lossless", "-exact"), most=1, mean=0.5)
    for colors in [2, 4, 16]:
        Image.fromarray(pixels).quantize(colors).convert("RGB").save(WORK / "few.png")
        add(f"webp-palette-{colors}.webp", cwebp("few.png", "-lossless"), **exact)
    for size in [(1, 1), (2, 3), (16, 16), (17, 15), (3, 40)]:
        (WORK / "small.ppm").write_bytes(ppm(picture(*size)))
        add(f"webp-lossy-{size[0]}x{size[1]}.webp", cwebp("small.ppm", "-q", "90"), most=12, mean=1.5)
        add(f"webp-lossless-{size[0]}x{size[1]}.webp", cwebp("small.ppm", "-lossless"), **exact)

    def pillow(image, **options):
        data = io.BytesIO()
        image.save(data, "WEBP", **options)
        return data.getvalue()

    image, other = Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())
    for lossless in [False, True]:
        name, bounds = ("lossless", exact) if lossless else ("lossy", lossy)
        options = dict(lossless=lossless, quality=90)
        data = pillow(image, save_all=True, append_images=[other], duration=90, **options)
        add(f"webp-animated-{name}.webp", data, **bounds)
        clear = Image.open(WORK / "alpha.png")
        data = pillow(clear, save_all=True, append_images=[other.convert("RGBA")], duration=90, **options)
        add(f"webp-animated-alpha-{name}.webp", data, most=8, mean=1)
        add(f"webp-profile-{name}.webp", pillow(image, icc_profile=bytes(3000), **options), **bounds)
        for orientation in range(1, 9):
            data = pillow(Image.fromarray(picture(24, 17)), exif=b"Exif\0\0" + exif(orientation), **options)
            add(f"webp-exif-{orientation}-{name}.webp", data, **bounds)
    data = cwebp("a.ppm")
    refuse("webp-cut-off.webp", data[: len(data) // 2], "the WebP data is damaged")


# ---- BMP


def bmp_rows(samples, bits):
    rows = b""
    for row in samples:
        if bits < 8:
            unpacked = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - bits :]
            line = np.packbits(unpacked.reshape(-1)).tobytes()
        else:
            line = row.tobytes()
        rows += line + bytes(-len(line) % 4)
    return rows


def bmp(width, height, bits, rows, header=40, compression=0, masks=b"", palette=b"", colors=0):
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(rows), 2835, 2835, colors, 0)
        if header > 40:
            info += (masks + bytes(16))[:16] + b"BGRs" + bytes(header - 60)
        else:
            info += masks
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + info + palette + rows


def make_bmp():
    pixels = picture(23, 19)
    up, exact = pixels[::-1], dict(most=0, mean=0)
    gray = up[:, :, 0]
    three = bytes((37 * i * (channel + 3) + 91 * channel) % 256 for i in range(256) for channel in range(3))
    four = b"".join(three[3 * i : 3 * i + 3] + b"\0" for i in range(256))
    for bits in [1, 4, 8]:
        rows = bmp_rows(gray >> (8 - bits), bits)
        add(f"bmp-palette-{bits}.bmp", bmp(23, 19, bits, rows, palette=four[: 4 << bits]), **exact)
        add(f"bmp-palette-{bits}-top-down.bmp", bmp(23, -19, bits, rows, palette=four[: 4 << bits]), **exact)
        add(f"bmp-palette-{bits}-os2.bmp", bmp(23, 19, bits, rows, header=12, palette=three[: 3 << bits]), **exact)
    rows = bmp_rows(gray >> 3, 8)
    add("bmp-palette-8-of-32.bmp", bmp(23, 19, 8, rows, palette=four[:128], colors=32), **exact)
    rows = bmp_rows(up[:, :, ::-1], 24)
    add("bmp-24.bmp", bmp(23, 19, 24, rows), **exact)
    add("bmp-24-top-down.bmp", bmp(23, -19, 24, rows), **exact)
    add("bmp-24-os2.bmp", bmp(23, 19, 24, rows, header=12), **exact)
    for header in [108, 124]:
        add(f"bmp-24-header-{header}.bmp", bmp(23, 19, 24, rows, header=header), **exact)
    rows = np.dstack([up[:, :, ::-1], np.zeros_like(up[:, :, :1])]).tobytes()
    add("bmp-32.bmp", bmp(23, 19, 32, rows), **exact)
    alpha = np.linspace(0, 255, 23 * 19).reshape(19, 23, 1).astype(np.uint8)
    rows = np.dstack([up[:, :, ::-1], alpha]).tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    for header in [108, 124]:
        data = bmp(23, 19, 32, rows, header=header, compression=3, masks=masks)
        add(f"bmp-32-alpha-{header}.bmp", data, most=1, mean=0.5)
    add("bmp-32-masks.bmp", bmp(23, 19, 32, rows, compression=3, masks=masks[:12]), **exact)
    five, six = (up >> 3).astype(np.uint16), (up >> 2).astype(np.uint16)
    words = [
        ("555", (five[:, :, 0] << 10) | (five[:, :, 1] << 5) | five[:, :, 2], None),
        ("565", (five[:, :, 0] << 11) | (six[:, :, 1] << 5) | five[:, :, 2], (0xF800, 0x07E0, 0x1F)),
    ]
    for name, values, masks in words:
        rows = bmp_rows(values.astype("<u2"), 16)
        options = dict(compression=3, masks=struct.pack("<III", *masks)) if masks else {}
        add(f"bmp-16-{name}.bmp", bmp(23, 19, 16, rows, **options), most=1, mean=0.6)
    # Runs, a literal row, and a jump over pixels that get no color: they are black in all decoders if color 0 is.
    # in all decoders if color 0 is.
    runs = b""
    for number, row in enumerate(gray >> 4):
        if number == 4:
            runs += bytes([0, 23, *row, 0])
        elif number == 7:
            runs += bytes([5, 9, 0, 2, 6, 0, 12, 3])
        else:
            runs += b"".join(bytes([1, value]) for value in row)
        runs += b"\0\0"
    data = bmp(23, 19, 8, runs + b"\0\1", compression=1, palette=bytes(4) + four[4:])
    add("bmp-rle-8.bmp", data, **exact)
    runs = b"".join(b"".join(bytes([1, value << 4]) for value in row) + b"\0\0" for row in gray >> 4) + b"\0\1"
    data = bmp(23, 19, 4, runs, compression=2, palette=four[:64])
    add("bmp-rle-4.bmp", data, decoder=lambda data: by_imagemagick(data, "bmp"), **exact)
    for kind in ["BMP2", "BMP3", "BMP"]:
        add(f"bmp-imagemagick-{kind.lower()}.bmp", run(["convert-im6.q16", "PPM:-", f"{kind}:-"], ppm(pixels)), **exact)
    for mode in ["1", "L", "P", "RGB"]:
        data = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(data, "BMP")
        add(f"bmp-pillow-{mode}.bmp", data.getvalue(), **exact)
    huge = bmp(40_000, 40_000, 24, bytes(100))
    refuse("bmp-huge.bmp", huge, "40000x40000 is more than 134217728 pixels")
    refuse("bmp-cut-off.bmp", bmp(23, 19, 24, bytes(100)), "the file is cut off")


def main():
    pixels = picture(37, 35)
    jpeg_sampling(pixels)
    jpeg_scans(pixels)
    jpeg_colors(pixels)
    jpeg_others(pixels)
    make_png()
    make_webp()
    make_bmp()
    names = [row[0] for row in ROWS]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        # Files that resemble each other lie together.
        for name, data in sorted(FILES.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (HERE / "corpus.tar.gz").write_bytes(gzip.compress(packed.getvalue(), 9, mtime=0))
    (HERE / "corpus.tsv").write_text("".join("\t".join(row) + "\n" for row in sorted(ROWS)))
    print(len(ROWS), "images,", len(packed.getvalue()), "bytes unpacked")


main()
