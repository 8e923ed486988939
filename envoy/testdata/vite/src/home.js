export const render = () => ["Hello"];
