// The proxy of datagrams, as unprivileged as the real one, with a socket at each of its ports: passes what a client asks on to its server, and back what that answers.
// Prints a line per datagram: leg, handle's address, bytes, and the port where there are several; or the error of sending it on.
import dgram from "node:dgram";

const CLIENT = 1, SERVER = 2; // proto/numbers/datagram_legs.tsv
const ports = Deno.args.map(Number);
/** One socket, as each process of the real one has it. */
function open(own: number): Promise<void> {
  const socket = dgram.createSocket({ type: "udp6", ipv6Only: false, recvBufferSize: 1 << 20 });
  const which = ports.length === 1 ? "" : ` ${own}`;
  socket.on("message", (data, { address, port }) => {
    const leg = port === CLIENT ? "client" : port === SERVER ? "server" : `stranger:${port}`;
    const handle = address.replace("::ffff:", "");
    console.log(`${leg} ${handle} ${data.length}${which}`);
    if (port !== CLIENT && port !== SERVER) return;
    socket.send(data, port === CLIENT ? SERVER : CLIENT, address, (error) => {
      if (error) console.log(`error ${error.message} ${handle}${which}`);
    });
  });
  return new Promise((resolve) => socket.bind(own, "::", resolve));
}
await Promise.all(ports.map(open));
console.log("ready");
