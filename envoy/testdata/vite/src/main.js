import "@fontsource/inter/latin-400.css";
import "./style.css";
import { call } from "./call.js";

// A chunk that cannot be loaded: the page is loaded again, and sessiongate's page refreshes before.
addEventListener("vite:preloadError", () => location.reload());

// The state that a navigation of the client must keep.
const count = document.querySelector("#count");
count.addEventListener("click", () => (count.textContent = Number(count.textContent) + 1));

const views = { "/": () => import("./home.js"), "/notes": () => import("./notes.js"), "/about": () => import("./about.js") };

async function show() {
  const main = document.querySelector("main");
  delete main.dataset.view;
  const view = await views[location.pathname]();
  main.replaceChildren(...(await view.render(call)));
  main.dataset.view = location.pathname;
}

document.querySelector("nav").addEventListener("click", (event) => {
  event.preventDefault();
  history.pushState(null, "", event.target.href);
  show();
});
addEventListener("popstate", show);

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
worker.addEventListener("message", (event) => (document.body.dataset.worker = event.data));
worker.postMessage(2);

navigator.serviceWorker.register("/sw.js").then(() => navigator.serviceWorker.ready).then(() => (document.body.dataset.serviceWorker = "ready"));
document.fonts.load("1rem Inter").then((fonts) => (document.body.dataset.fonts = fonts.length));
show();
