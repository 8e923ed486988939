import "./notes.css";

export async function render(call) {
  const answer = await call("/api/notes");
  const saw = await answer.json();
  const notes = document.createElement("p");
  notes.className = "notes";
  notes.textContent = `${answer.status} ${saw.Header["X-Session-User-Id"]}`;
  return [notes];
}
