//! How each digit is written: the pen's path through a unit box, in several handwriting styles.
//!
//! x runs to the right and y down, both in percent of the box; when drawn, the box is narrower than tall.

/// A point on the path of the pen.
#[derive(Clone, Copy, Debug)]
pub struct Knot {
    /// Place across and down the box, in percent.
    pub at: [i8; 2],
    /// Whether the path has a corner here; it is smooth at every other knot.
    pub corner: bool,
}

/// One way of writing a digit: strokes between which the pen is lifted.
pub type Style = &'static [&'static [Knot]];

/// Styles of the digits 0 to 9; all styles of a digit are equally likely.
pub const STYLES: [&[Style]; 10] = [
    // 0: closed, narrow, and with a hook at the top.
    &[
        &[&[s(55, 1), s(22, 12), s(5, 50), s(20, 87), s(50, 99), s(80, 87), s(95, 50), s(80, 13), s(50, 1)]],
        &[&[s(50, 0), s(24, 18), s(12, 55), s(27, 90), s(52, 99), s(77, 86), s(89, 50), s(75, 14), s(50, 1)]],
        &[&[s(72, 10), s(38, 3), s(8, 35), s(12, 78), s(45, 99), s(82, 82), s(94, 45), s(76, 12), s(48, 3)]],
    ],
    // 1: a bare line, a line with a short flag, and one with a base as well.
    &[
        &[&[s(50, 0), s(50, 50), s(50, 100)]],
        &[&[s(26, 24), c(52, 0), s(52, 50), s(52, 100)]],
        &[&[s(28, 22), c(50, 0), s(50, 50), s(50, 99)], &[s(18, 100), s(82, 100)]],
    ],
    // 2: with a sharp foot, with a loop at the foot, and with a round neck.
    &[
        &[&[s(10, 24), s(32, 3), s(68, 4), s(86, 26), s(70, 52), s(36, 80), c(8, 99), s(94, 97)]],
        &[&[
            s(12, 20),
            s(40, 1),
            s(76, 10),
            s(82, 34),
            s(58, 66),
            s(22, 93),
            s(6, 88),
            s(26, 80),
            s(60, 95),
            s(96, 92),
        ]],
        &[&[s(8, 30), s(20, 8), s(54, 0), s(86, 18), s(78, 46), s(44, 74), c(10, 98), s(50, 94), s(90, 99)]],
    ],
    // 3: two bows, and a flat top.
    &[
        &[&[
            s(12, 14),
            s(44, 0),
            s(80, 13),
            s(74, 38),
            c(40, 47),
            s(80, 58),
            s(92, 78),
            s(62, 99),
            s(30, 98),
            s(6, 85),
        ]],
        &[&[s(14, 3), c(86, 3), c(44, 40), s(78, 50), s(92, 73), s(68, 97), s(34, 99), s(6, 88)]],
        &[&[s(16, 10), s(52, 0), s(84, 18), s(66, 42), s(42, 47), s(68, 52), s(92, 74), s(60, 99), s(8, 90)]],
    ],
    // 4: open, closed to a point, and open with a round corner.
    &[
        &[&[s(22, 0), s(14, 30), c(6, 62), s(96, 60)], &[s(72, 12), s(70, 55), s(66, 100)]],
        &[&[s(66, 0), s(36, 34), c(2, 68), s(98, 68)], &[s(66, 0), s(66, 50), s(66, 100)]],
        &[&[s(18, 2), s(8, 38), s(20, 58), s(52, 56), s(90, 46)], &[s(84, 2), s(76, 50), s(70, 100)]],
    ],
    // 5: body and roof apart, all in one, and a wide one.
    &[
        &[&[s(24, 4), c(18, 44), s(52, 37), s(88, 56), s(84, 84), s(50, 99), s(8, 91)], &[s(24, 4), s(90, 2)]],
        &[&[s(88, 3), c(28, 3), c(20, 46), s(56, 38), s(90, 62), s(74, 92), s(40, 99), s(6, 88)]],
        &[&[s(94, 5), s(60, 1), c(24, 4), c(14, 42), s(48, 40), s(84, 54), s(90, 76), s(62, 97), s(10, 97)]],
    ],
    // 6: straight and curled.
    &[
        &[&[s(68, 0), s(36, 24), s(10, 62), s(22, 92), s(54, 99), s(86, 82), s(76, 58), s(46, 52), s(14, 72)]],
        &[&[
            s(84, 10),
            s(60, 0),
            s(26, 18),
            s(6, 58),
            s(20, 93),
            s(58, 99),
            s(90, 76),
            s(66, 52),
            s(34, 56),
            s(12, 76),
        ]],
    ],
    // 7: plain, with a bar through the stem, and with a hook at the left.
    &[
        &[&[s(-3, 4), s(50, 5), c(101, 3), s(62, 48), s(42, 100)]],
        &[&[s(-3, 4), s(50, 4), c(101, 3), s(64, 48), s(46, 100)], &[s(30, 50), s(88, 47)]],
        &[&[s(-3, 21), c(0, 4), s(50, 6), c(101, 4), s(70, 40), s(48, 100)]],
    ],
    // 8: one crossing line, and two rings.
    &[
        &[&[
            s(78, 14),
            s(48, 0),
            s(18, 19),
            s(46, 46),
            s(86, 74),
            s(50, 99),
            s(12, 76),
            s(50, 46),
            s(82, 22),
            s(72, 8),
        ]],
        &[
            &[s(50, 0), s(18, 12), s(22, 38), s(50, 46), s(78, 36), s(80, 12), s(50, 0)],
            &[s(50, 46), s(14, 60), s(14, 88), s(50, 99), s(86, 88), s(86, 60), s(50, 46)],
        ],
    ],
    // 9: with a straight stem, and with a tail to the left.
    &[
        &[&[s(84, 18), s(50, 0), s(14, 18), s(26, 46), s(62, 46), c(85, 12), s(84, 55), s(74, 100)]],
        &[&[
            s(84, 14),
            s(48, 0),
            s(12, 22),
            s(28, 48),
            s(64, 44),
            c(86, 12),
            s(88, 52),
            s(66, 92),
            s(34, 100),
            s(14, 92),
        ]],
        &[&[s(80, 26), s(66, 2), s(28, 4), s(14, 34), s(44, 50), s(80, 26), s(72, 60), s(48, 100)]],
    ],
];

const fn s(x: i8, y: i8) -> Knot {
    Knot { at: [x, y], corner: false }
}

const fn c(x: i8, y: i8) -> Knot {
    Knot { at: [x, y], corner: true }
}
