import "@fontsource/inter/latin-400.css";
import "./style.css";
import Link from "next/link";
import { Counter } from "./counter";

export const metadata = { title: "Next.js", icons: "/icon.svg" };

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>
        <nav>
          <Link href="/">Home</Link> <Link href="/notes">Notes</Link> <Link href="/about">About</Link> <Link href="/looped">Looped</Link>
        </nav>
        <Counter />
        <main>{children}</main>
      </body>
    </html>
  );
}
