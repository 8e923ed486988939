// A worker that loads a part of itself by import().
addEventListener("message", async (event) => {
  const { double } = await import("./double.js");
  postMessage(double(event.data));
});
