"""The style sheet of the charts, alone and in a page."""

from __future__ import annotations

__all__ = ["STYLE"]

# Each colour has a contrast of 4.5 to its background. The first is the control's, the others are candidates'.
STYLE = """
:root{color-scheme:light dark;--text:#1c2430;--muted:#566275;--rule:#d5dbe3;--page:#fff;--panel:#f6f8fa;
--k0:#5b6778;--k1:#0b7285;--k2:#a34a00;--k3:#7438c4;--k4:#b0245f;--k5:#4b6b00;
--good:#1b6e3a;--bad:#b3261e;--unsure:#7a5b00;--decide:#b3261e}
@media screen and (prefers-color-scheme:dark){:root{--text:#e6eaf0;--muted:#a3afbf;--rule:#39424f;--page:#12161c;
--panel:#1a2028;--k0:#a3afbf;--k1:#4cc3d9;--k2:#f0a35e;--k3:#b79af5;--k4:#f28db3;--k5:#b4d455;
--good:#6fd695;--bad:#ff8f86;--unsure:#e8c35a;--decide:#ff8f86}}
svg{font:12px system-ui,sans-serif;fill:var(--text);width:100%;height:auto;max-width:560px}
svg .tick{fill:var(--muted);font-size:11px}svg .strong{font-weight:600}
svg .axis{stroke:var(--muted)}svg .grid{stroke:var(--rule)}
svg .zero{stroke:var(--text)}svg .decide{stroke:var(--decide);stroke-dasharray:5 3;stroke-width:1.5}
svg .mark{stroke:var(--muted);stroke-dasharray:2 3}
.c0{--c:var(--k0)}.c1{--c:var(--k1)}.c2{--c:var(--k2)}.c3{--c:var(--k3)}.c4{--c:var(--k4)}.c5{--c:var(--k5)}
.good{--c:var(--good)}.bad{--c:var(--bad)}.unsure{--c:var(--unsure)}
svg .fill{fill:var(--c)}svg .band{fill:var(--c);fill-opacity:.18}svg .pale{fill:var(--c);fill-opacity:.35}
svg .line{stroke:var(--c);stroke-width:2;fill:none}svg .word{fill:var(--c);font-weight:600}
svg .cell{stroke:var(--page)}
""".strip()
