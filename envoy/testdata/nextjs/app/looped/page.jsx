import { looped } from "../../api";

export default async function Looped() {
  const saw = await looped("/api/notes");
  return <p id="looped">{saw.Header["X-Session-User-Id"]}</p>;
}
