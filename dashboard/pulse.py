"""A small sign in the browser: how old the page's data are, also while its connection is cut; whether it is seen.

It also hears the Escape key before anything else on the page does: an open popover or a field that is being written in
would keep it for themselves, and Escape is STOP.

Beside it `wake`: a fragment that draws itself anew every half second does so by a clock in the browser, and that clock
is lost where the page is redrawn at the wrong moment. A page that hears nothing for a while is drawn again as a whole.
"""

import streamlit as st

# The age is counted by the browser: when the connection is cut, nothing else on the page can say so.
_JS = """
export default function({ data, parentElement, setStateValue }) {
  const box = parentElement.querySelector("[data-age]");
  if (data.beat !== box.beat) box.at = window.calibHeard = performance.now();  // a change of theme calls it too
  window.calibWoken = 0;
  box.beat = data.beat;
  box.late = data.late;
  box.seen = () => setStateValue("visible", !document.hidden);
  if (box.timer) return;  // called again with newer data: one clock goes on
  const show = () => {
    const age = (performance.now() - box.at) / 1000;
    const late = age > 2;
    box.textContent = late
      ? `no contact for ${age.toFixed(0)} s: what you see is old. ${box.late}`
      : `data ${age.toFixed(1)} s old`;
    box.className = late ? "late" : "";
  };
  box.timer = setInterval(show, 200);
  const seen = () => box.seen();
  document.addEventListener("visibilitychange", seen);
  if (document.hidden) seen();  // opened behind another tab
  const stop = (event) => {
    const button = document.querySelector(".st-key-stop button");
    if (event.key !== "Escape" || !button) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!event.repeat) button.click();
  };
  window.addEventListener("keydown", stop, true);
  return () => {
    window.removeEventListener("keydown", stop, true);
    clearInterval(box.timer);
    box.timer = null;
    document.removeEventListener("visibilitychange", seen);
  };
}
"""
_CSS = """
[data-age] { font: 0.85rem sans-serif; opacity: 0.75; }
[data-age].late { color: #fff; background: #b3261e; padding: 0.4rem 0.6rem; border-radius: 0.3rem; opacity: 1; }
"""

_WAKE = """
export default function({ data, parentElement, setTriggerValue }) {
  const box = parentElement.querySelector("[data-wake]");
  box.after = data.after_s;
  box.wake = () => setTriggerValue("wake", Date.now());
  window.calibHeard = performance.now();
  if (box.timer) return;
  window.calibWoken = 0;
  box.timer = setInterval(() => {
    // Being woken interrupts a page that is being drawn: one that takes longer is given longer each time.
    if ((performance.now() - window.calibHeard) / 1000 < box.after * 2 ** window.calibWoken) return;
    window.calibHeard = performance.now();
    window.calibWoken += 1;
    box.wake();
  }, 250);
  return () => {
    clearInterval(box.timer);
    box.timer = null;
  };
}
"""

pulse = st.components.v2.component(
    "calib_pulse", html='<div data-age role="status" aria-live="polite"></div>', css=_CSS, js=_JS
)
_wake = st.components.v2.component("calib_wake", html="<div data-wake></div>", js=_WAKE)


def wake(after_s: float) -> None:
    """Draw the whole page anew where `pulse` has heard nothing for `after_s`. To stand outside of every fragment."""
    _wake(key="wake", data={"after_s": after_s}, on_wake_change=lambda: None)
