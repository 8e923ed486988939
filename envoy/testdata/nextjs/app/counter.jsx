"use client";

import { useState } from "react";

// The state that a navigation of the client must keep.
export function Counter() {
  const [count, setCount] = useState(0);
  return (
    <button id="count" onClick={() => setCount(count + 1)}>
      {count}
    </button>
  );
}
