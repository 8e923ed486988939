export default () => <p id="home">Hello</p>;
