import styles from "./about.module.css";

// It is the same for everybody, so Next.js renders it when it builds.
export default () => (
  <p id="about" className={styles.about}>
    About
  </p>
);
