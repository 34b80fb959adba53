// The proxy of datagrams, as unprivileged as the real one, with one socket: passes what a client asks on to its server, and back what that answers.
// Prints a line per datagram: leg, handle's address, bytes; or the error of sending it on.
import dgram from "node:dgram";

const CLIENT = 1, SERVER = 2; // proto/numbers/datagram_legs.tsv
const socket = dgram.createSocket({ type: "udp6", ipv6Only: false, recvBufferSize: 1 << 20 });
socket.on("message", (data, { address, port }) => {
  const leg = port === CLIENT ? "client" : port === SERVER ? "server" : `stranger:${port}`;
  const handle = address.replace("::ffff:", "");
  console.log(`${leg} ${handle} ${data.length}`);
  if (port !== CLIENT && port !== SERVER) return;
  socket.send(data, port === CLIENT ? SERVER : CLIENT, address, (error) => {
    if (error) console.log(`error ${error.message} ${handle}`);
  });
});
socket.bind(Number(Deno.args[0]), "::", () => console.log("ready"));
