import { api } from "../../api";
import { save } from "./actions";
import { Mine } from "./mine";

export default async function Notes() {
  const saw = await api("/api/notes");
  return (
    <>
      <p id="notes">{saw.Header["X-Session-User-Id"]}</p>
      <Mine save={save} />
    </>
  );
}
