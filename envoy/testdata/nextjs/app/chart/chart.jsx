"use client";

export default () => (
  <svg id="chart" viewBox="0 0 8 8" width="32">
    <circle cx="4" cy="4" r="4" />
  </svg>
);
