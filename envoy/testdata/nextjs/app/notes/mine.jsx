"use client";

import dynamic from "next/dynamic";
import { useState } from "react";

const Chart = dynamic(() => import("../chart/chart"), { ssr: false });

// Calls from the browser: of the API, of a server action, and for a part of the page that is loaded when it is shown.
export function Mine({ save }) {
  const [called, setCalled] = useState("");
  const [saved, setSaved] = useState("");
  const [chart, setChart] = useState(false);
  const call = async () => {
    const answer = await fetch("/api/mine");
    setCalled(`${answer.status} ${(await answer.json()).Header["X-Session-User-Id"]}`);
  };
  return (
    <>
      <button id="call" onClick={call}>
        Call
      </button>
      <output id="called">{called}</output>
      <button id="save" onClick={async () => setSaved(await save("a note"))}>
        Save
      </button>
      <output id="saved">{saved}</output>
      <button id="show" onClick={() => setChart(true)}>
        Show
      </button>
      {chart && <Chart />}
    </>
  );
}
