"""The style sheet of a page."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1d2430; --soft: #5a6472; --line: #d9dee5; --panel: #f6f8fa;
  --series-0: #0064b0; --series-1: #c2410c; --series-2: #15803d; --series-3: #8b3fb5;
  --series-4: #a16207; --series-5: #0e7490; --series-6: #be185d; --series-7: #52525b;
  --up-1: #dcebfb; --up-2: #aad0f8; --up-3: #78b3f2; --down-1: #ffe8cf; --down-2: #ffcb92;
  --down-3: #f9a84f; --added: #e3f3da;
}
@media (prefers-color-scheme: dark) { :root {
  --paper: #12161c; --ink: #e4e8ee; --soft: #9aa5b3; --line: #343c47; --panel: #1a2028;
  --series-0: #5eb1f5; --series-1: #fb9b63; --series-2: #63cf8b; --series-3: #cf9bf0;
  --series-4: #e2bb4f; --series-5: #58c9dc; --series-6: #f590bd; --series-7: #b4b6bd;
  --up-1: #15304c; --up-2: #1b4a78; --up-3: #2464a6; --down-1: #442a10; --down-2: #67400f;
  --down-3: #8f5411; --added: #24402a;
} }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 76rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { max-width: 48rem; margin: .5rem 0; }
.lead, figcaption, .caption { color: var(--soft); }
.figures { display: grid; gap: 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
figure { margin: 0; padding: .8rem; background: var(--panel); border: 1px solid var(--line);
  border-radius: .5rem; min-width: 0; }
/* Alone in its row a figure would grow until its letters shout. */
figure:only-child { max-width: 40rem; }
figure h3 { font-size: 1rem; margin: 0 0 .2rem; }
figcaption { font-size: .875rem; margin-top: .3rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; list-style: none; margin: .2rem 0;
  padding: 0; font-size: .875rem; }
.legend svg { display: inline-block; width: 1.8rem; height: .7rem; vertical-align: middle;
  margin-right: .35rem; }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; margin: .5rem 0; font-size: .95rem;
  font-variant-numeric: tabular-nums; }
.caption { font-size: .875rem; margin: 1rem 0 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { border-bottom-width: 2px; vertical-align: bottom; }
thead th, tbody td:first-child { overflow-wrap: break-word; }
.number { text-align: right; overflow-wrap: normal; }
.number span { white-space: nowrap; }
.ends { color: var(--soft); font-size: .9em; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .15rem 1rem;
  font-size: .875rem; margin: .5rem 0; }
dt { color: var(--soft); } dd { margin: 0; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem;
  padding: .7rem; white-space: pre-wrap; font-size: .875rem; }
summary { cursor: pointer; } details { margin: .4rem 0; }
.kept { margin: 1rem 0; padding: .8rem; background: var(--panel); border: 1px solid var(--line);
  border-radius: .5rem; }
.kept h3 { font-size: 1rem; margin: 0; }
.kept h4 { font-size: .8rem; margin: .6rem 0 .15rem; color: var(--soft); font-weight: 600; }
.kept p { margin: .1rem 0; } .kept .pair .caption { margin-top: .6rem; }
.kept td:first-child { overflow-wrap: anywhere; min-width: 5rem; }
.kept table { font-size: .85rem; margin: .2rem 0; } .kept th, .kept td { padding: .15rem .5rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1.5rem; }
.pair > div { min-width: 0; }
.said { background: var(--paper); padding: .4rem .6rem; margin: 0; }
mark { background: var(--added); color: inherit; }
[class^="up-"], [class^="down-"] { text-decoration: underline; text-underline-offset: .2em;
  text-decoration-skip-ink: none; }
[class^="down-"] { text-decoration-style: dashed; }
.up-1, .down-1 { text-decoration-thickness: 1px; }
.up-2, .down-2 { text-decoration-thickness: 2px; }
.up-3, .down-3 { text-decoration-thickness: 4px; }
.up-1 { background: var(--up-1); } .up-2 { background: var(--up-2); }
.up-3 { background: var(--up-3); } .down-1 { background: var(--down-1); }
.down-2 { background: var(--down-2); } .down-3 { background: var(--down-3); }
@media (max-width: 50rem) { .pair { grid-template-columns: 1fr; } }
@media (max-width: 34rem) { .kept table { font-size: .75rem; }
  .kept th, .kept td { padding: .15rem .2rem; }
  th, td { padding: .3rem .35rem; } table { font-size: .85rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .4rem; }
  .rows, .rows tbody { display: block; } .rows thead { display: none; }
  .rows tr { display: block; padding: .5rem 0; border-bottom: 2px solid var(--line); }
  .rows td { display: flex; justify-content: space-between; gap: 1rem; border: 0; }
  .rows td::before { content: attr(data-label); color: var(--soft); text-align: left; }
  .rows td:first-child { font-weight: 600; } .rows td:first-child::before { content: ""; }
  .rows td:first-child { justify-content: flex-start; gap: 0; } .rows td div { min-width: 0; } }
@media print { mark, [class^="up-"], [class^="down-"] { print-color-adjust: exact; }
  :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444;
  --line: #bbb; --panel: #fff; --series-0: #0064b0; --series-1: #c2410c; --series-2: #15803d;
  --series-3: #8b3fb5; --series-4: #a16207; --series-5: #0e7490; --series-6: #be185d;
  --series-7: #52525b;
  --up-1: #dcebfb; --up-2: #aad0f8; --up-3: #78b3f2; --down-1: #ffe8cf; --down-2: #ffcb92;
  --down-3: #f9a84f; --added: #e3f3da; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  table { font-size: 8.5pt; } th, td { padding: .2rem .45rem; }
  .kept .pair { grid-template-columns: 1fr 1fr; } .kept pre { font-size: 8pt; }
  .kept table { font-size: 7pt; } .kept th, .kept td { padding: .1rem .2rem; }
  .kept td:first-child { min-width: 0; } .caption, figcaption, .legend { font-size: 8.5pt; }
  figure, tr { break-inside: avoid; }
  h2, .kept h3, .kept h4, .kept h3 + p { break-after: avoid; }
  .figures { grid-template-columns: 1fr 1fr; } }
"""
