"""Makes the two fonts of figures: subsets of Inter 4.0 (SIL Open Font License 1.1).

pip install fonttools; apt-get download fonts-inter; dpkg -x fonts-inter_*.deb inter
python make_fonts.py inter/usr/share/fonts/opentype/inter
"""

import sys
from pathlib import Path

from fontTools import subset

# Latin, Latin-1, Latin Extended-A, Romanian letters, accents that combine, Greek, punctuation, super- and subscripts,
# currency, letterlike, arrows, math, shapes. The euro sign to the full stop are in Inter; what is not is ignored.
UNICODES = [
    *range(0x20, 0x7F), *range(0xA0, 0x180), *range(0x218, 0x21C), 0x2C6, 0x2C7, 0x2D8, 0x2D9, 0x2DA, 0x2DB, 0x2DC, 0x2DD,
    *range(0x300, 0x314), *range(0x370, 0x3D0), *range(0x1E80, 0x1E86), 0x1E9E, *range(0x2010, 0x2028),
    *range(0x2030, 0x203B), 0x2044, *range(0x2070, 0x2095), 0x20AC, 0x2122, 0x2126, *range(0x2190, 0x219A),
    *range(0x21D0, 0x21D6), 0x2202, 0x2206, 0x220F, 0x2211, 0x2212, 0x2215, 0x2219, 0x221A, 0x221E, 0x222B,
    0x2248, 0x2260, 0x2264, 0x2265, 0x25A0, 0x25A1, 0x25B2, 0x25B3, 0x25BC, 0x25C6, 0x25C7, 0x25CB, 0x25CF, 0x2713,
    0x2717, 0xFFFD,
]

for weight in ["Regular", "SemiBold"]:
    options = subset.Options()
    options.layout_features = ["kern", "mark", "mkmk", "ccmp"]
    options.name_IDs = [0, 1, 2, 3, 4, 6, 13, 14, 16, 17]
    options.notdef_outline = True
    options.hinting = False
    options.desubroutinize = False
    font = subset.load_font(Path(sys.argv[1]) / f"Inter-{weight}.otf", options)
    tool = subset.Subsetter(options)
    tool.populate(unicodes=UNICODES)
    tool.subset(font)
    # So that equal input gives equal bytes.
    font["head"].modified = font["head"].created
    font.recalcTimestamp = False
    subset.save_font(font, f"Inter-{weight}.otf", options)
