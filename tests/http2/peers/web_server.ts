/**
 * HTTP/2 in plain text on the first port: "ADDRESS PORT METHOD PATH BYTES". HTTP/1.1 with WebSocket on the second: each message comes back behind
 * "ADDRESS PORT ". `web_server.ts PORT WEBSOCKET_PORT`
 * @module
 */
import { createServer } from "node:http2";

const plain = (address: string) => address.replace(/^::ffff:/, "");

createServer((request, response) => {
  let bytes = 0;
  request.on("data", (piece) => bytes += piece.length);
  request.on("end", () => {
    const { remoteAddress = "", remotePort } = request.socket;
    response.setHeader("content-type", "text/plain");
    response.end(`${plain(remoteAddress)} ${remotePort} ${request.method} ${request.url} ${bytes}\n`);
  });
}).listen(Number(Deno.args[0]), "::");

Deno.serve({ hostname: "::", port: Number(Deno.args[1]) }, (request, { remoteAddr }) => {
  const { hostname, port } = remoteAddr as Deno.NetAddr;
  if (request.headers.get("upgrade") !== "websocket") return new Response("no WebSocket\n", { status: 400 });
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = ({ data }) => socket.send(`${plain(hostname)} ${port} ${data}`);
  return response;
});
