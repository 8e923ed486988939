# An app with a page and an API, and no word on sessions but x-session-user-id. The end-to-end tests
# run it behind sessiongate dev, with Flask's own development server.
import pathlib
import sys

from flask import Flask, jsonify, request, send_file

app = Flask(__name__)

PAGE = """<!doctype html>
<html lang="en">
<title>Flask</title>
<link rel="icon" href="data:,">
<button id="again">Again</button>
<main><p class="notes"></p></main>
<script type="module">
  import { sessionFetch } from "/sessiongate.js";
  const call = sessionFetch({ onSignedOut: () => location.assign("/dev/login") });
  const main = document.querySelector("main");
  async function show() {
    delete main.dataset.view;
    const answer = await call("/api/notes");
    const notes = await answer.json();
    document.querySelector(".notes").textContent = `${answer.status} ${notes.user}`;
    main.dataset.view = location.pathname;
  }
  document.querySelector("#again").addEventListener("click", show);
  show();
</script>
"""


@app.get("/")
@app.get("/notes")
def page():
    return PAGE


@app.get("/api/notes")
def notes():
    return jsonify(user=request.headers["x-session-user-id"])


@app.get("/sessiongate.js")
def module():
    return send_file(pathlib.Path(sys.argv[2]).resolve(), mimetype="text/javascript")


app.run(host="127.0.0.1", port=int(sys.argv[1]))
