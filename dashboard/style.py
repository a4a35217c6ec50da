"""The one style sheet of all pages."""

# Streamlit's own sign of a running script has a button "Stop" that stops no robot: it must not stand beside ours.
PAGES = """<style>
[data-testid="stStatusWidget"], [data-testid="stAppDeployButton"] { display: none; }
[data-testid="stMainBlockContainer"] { padding-top: 4rem; }
div:has(> .st-key-stop_bar) { position: sticky; top: 3.75rem; z-index: 50; }
.st-key-stop button { background: #b3261e; border-color: #b3261e; color: #fff; min-height: 3.2rem; }
.st-key-stop button p { font-size: 1.25rem; font-weight: 700; letter-spacing: 0.05em; }
.st-key-stop button:hover, .st-key-stop button:focus { background: #8c1d18; color: #fff; }
.st-key-stop button:disabled { background: transparent; border-color: currentColor; color: #d9483f; }
.st-key-pulse_box, .st-key-pulse_box * { opacity: 1 !important; }
body:has(.st-key-pulse_box) [data-testid="stDialog"] { display: none; }
:is(a, button, summary):focus-visible { outline: 2px solid currentColor !important; outline-offset: 1px; }
[data-testid="stElementToolbar"]:focus-within { opacity: 1; }
[data-testid="stHtml"] { overflow-wrap: anywhere; }
[data-testid="stHtml"]:has(table.figures) { overflow-x: auto; }
table.figures { overflow-wrap: normal; }
table.card, table.figures { border-collapse: collapse; width: 100%; font-size: 0.95rem; }
table.card td, table.figures td, table.figures th { padding: 0.2rem 0.5rem 0.2rem 0; border: none; text-align: left; }
table.card td.figure { text-align: right; font-variant-numeric: tabular-nums; }
table.figures td { font-variant-numeric: tabular-nums; border-top: 1px solid rgba(128,128,128,0.25); }
</style>"""
