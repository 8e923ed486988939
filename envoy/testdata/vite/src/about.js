import "./about.css";
import picture from "./about.svg";

export function render() {
  const image = document.createElement("img");
  image.src = picture;
  return [image];
}
