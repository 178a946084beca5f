"""The page around the blocks, and how all of it looks."""

from __future__ import annotations

from rollout_sdk.charts import STYLE, Markup, element, join, text

__all__ = ["STYLE_SHEET", "document"]

STYLE_SHEET = (
    STYLE
    + """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.45 system-ui,sans-serif}
header.page{display:flex;gap:1rem;align-items:baseline;padding:.6rem 1rem;border-bottom:1px solid var(--rule);flex-wrap:wrap}
header.page>:last-child{margin-left:auto}
header.page a{font-weight:600}
main{max-width:80rem;margin:0 auto;padding:0 1rem 3rem}
a{color:var(--k1)}h1{font-size:1.35rem;margin:1rem 0 .2rem}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}
h1,h2,.headline>*{overflow-wrap:anywhere;min-width:0}
p{margin:.3rem 0;max-width:75ch}.muted{color:var(--muted)}.word{color:var(--c);font-weight:600}
.facts{font-size:.9rem;display:flex;flex-wrap:wrap;gap:0 1.2em;overflow:hidden;max-width:none}.facts>span{position:relative}
.facts>span::before{content:"·";position:absolute;left:-.75em}
.headline{display:flex;gap:.2rem 1rem;align-items:baseline;flex-wrap:wrap}
.verdict{display:inline-block;padding:.1rem .6rem;border:2px solid var(--c);border-radius:.4rem;color:var(--c);font-weight:700;
white-space:nowrap}
ul.cards{list-style:none;margin:1rem 0;padding:0;display:grid;gap:.8rem;
grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr))}
ul.cards>li,section.block{background:var(--panel);border:1px solid var(--rule);border-radius:.6rem;padding:.7rem 1rem}
.effects{margin:.6rem 0 .9rem}article{margin-top:2rem}
.charts{display:grid;gap:.8rem;align-items:start;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr))}
figure.chart{margin:0;background:var(--panel);border:1px solid var(--rule);border-radius:.6rem;padding:.7rem .8rem;min-width:0}
figure.chart svg .word{paint-order:stroke;stroke:var(--panel);stroke-width:3px}
figcaption{font-weight:600;margin-bottom:.3rem;overflow-wrap:anywhere}
summary{cursor:pointer}details.block,section.block{margin:.8rem 0}section.block h2{margin-top:.1rem}
section.block ul{margin:.3rem 0;padding-left:1.2rem}details>summary{font-size:.85rem;color:var(--muted)}
.scroll{overflow-x:auto;max-height:26rem}table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
thead th{white-space:normal;vertical-align:bottom}
th:first-child,td:first-child{text-align:left}td.words{white-space:normal;min-width:14rem;text-align:left}
:focus-visible{outline:3px solid var(--k1);outline-offset:2px}
.button,button{font:inherit;display:inline-block;padding:.25rem .9rem;border:1px solid var(--muted);border-radius:.4rem;
background:var(--page);color:var(--text);cursor:pointer}
.button.abort{border-color:var(--bad);color:var(--bad);font-weight:600}
.operate details{display:inline-block;vertical-align:top;margin:0 .6rem .6rem 0}.operate details[open]{display:block}
.operate summary{list-style:none;font-size:1rem}.operate summary::-webkit-details-marker{display:none}
.operate{margin-bottom:1rem}.operate form{padding:.6rem 0;display:grid;gap:.5rem;justify-items:start}
form.login{display:grid;gap:.7rem;justify-items:start;margin-top:2rem}form.login label{display:grid;gap:.2rem}
input{font:inherit;padding:.2rem .4rem;border:1px solid var(--muted);border-radius:.3rem;
background:var(--page);color:var(--text);max-width:100%}
.pair{display:grid;gap:.6rem;grid-template-columns:1fr 1fr;margin:.4rem 0}
.answer{min-width:0}.answer.arguments{grid-column:1/-1}.answer>:first-child{font-size:.9rem;margin:.2rem 0;color:var(--muted)}
pre{font-size:.85rem;margin:0;padding:.5rem .7rem;border:1px solid var(--rule);border-radius:.4rem;background:var(--page);
white-space:pre-wrap;overflow-wrap:anywhere;max-height:26rem;overflow:auto}code{overflow-wrap:anywhere}
.choose{display:flex;gap:.6rem;flex-wrap:wrap;margin:.8rem 0}
@media(max-width:40rem){.pair{grid-template-columns:1fr}
.effects table,.effects tbody{display:block}.effects tr{display:grid;grid-template-columns:auto 1fr;gap:0 .8rem;
padding:.25rem 0;border-bottom:1px solid var(--rule)}.effects th,.effects td,.effects td.words{border:0;padding:0;min-width:0;
white-space:normal;text-align:left}.effects td:nth-child(even){order:1}
.effects td:nth-child(3),.effects td.words{text-align:right}}
@media print{header.page .screen,.operate{display:none}figure.chart,section.block,ul.cards>li{break-inside:avoid}
.charts{grid-template-columns:1fr 1fr}}
"""
)


def document(title: str, body: Markup, *, head: Markup | None = None, corner: Markup | None = None) -> str:
    """A whole page.

    Args:
        title: Its title.
        body: What is in it.
        head: What its head links to; None: the style is in the page, which then needs no other file.
        corner: What stands at the end of the first line; with it, the page is one of a dashboard.
    """
    alone = [
        # A page of one file asks for nothing, whatever is in it.
        element("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        Markup(f"<style>{STYLE_SHEET}</style>"),
    ]
    live = [element("span", id="live", class_="muted screen", aria_live="polite")]
    return "<!doctype html>" + element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", text(f"{title} - rollouts", 120)),
            *(alone if head is None else [head]),
        ),
        element(
            "body",
            *(
                ()
                if corner is None
                else (element("header", element("a", text("Rollouts"), href="/"), *live, corner, class_="page"),)
            ),
            element("main", join([body])),
        ),
        lang="en",
    )
