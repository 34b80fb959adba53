/** Opens each WebSocket that is named, sends what follows, and prints the size and the beginning of what comes back, or "refused": `URL BYTES ...`. @module */
for (let at = 0; at < Deno.args.length; at += 2) {
  const socket = new WebSocket(Deno.args[at]), bytes = Number(Deno.args[at + 1]);
  const said = await new Promise<string>((resolve) => {
    socket.onopen = () => socket.send("x".repeat(bytes));
    socket.onmessage = ({ data }) => resolve(data);
    socket.onerror = () => resolve("refused");
  });
  console.log(said === "refused" ? said : `${said.length} ${said.slice(0, said.indexOf("x"))}`.trim());
  if (socket.readyState === WebSocket.OPEN) {
    const closed = new Promise((resolve) => socket.onclose = resolve);
    socket.close();
    await closed;
  }
}
