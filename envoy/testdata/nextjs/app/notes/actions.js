"use server";

import { api } from "../../api";

export async function save(text) {
  const saw = await api("/api/notes", { method: "POST", body: text });
  return `${saw.Method} ${saw.Header["X-Session-User-Id"]}`;
}
