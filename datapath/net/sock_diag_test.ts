import assert from "node:assert/strict";
import { AF_INET, AF_INET6 } from "./address.ts";
import { Netns, netnsCookie } from "./netns.ts";
import { destroySocket, type InetSocket, listSockets, openSockDiag } from "./sock_diag.ts";

const root = Deno.uid() === 0;
if (!root) console.log("SKIP sockets of a namespace: not root");
const UDP = 17;

/** Connects a UDP socket to itself, says so, and then says how its next receive ended. */
const PROGRAM = `import socket,sys
six=':' in sys.argv[1]
s=socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1],5353)); print('ready',flush=True)
try:
    s.recv(9); print('data')
except OSError as e:
    print(e.errno)
`;

Deno.test({
  name: "destroySocket() ends the connected UDP socket that listSockets() found, and no other",
  ignore: !root,
  fn: async () => {
    const name = `wt-diag-${Deno.pid}`;
    const ip = (...args: string[]) => new Deno.Command("ip", { args }).outputSync();
    try {
      ip("netns", "add", name);
      ip("-n", name, "link", "set", "lo", "up");
      using netns = Netns.open(`/run/netns/${name}`);
      using diag = openSockDiag(netns);
      using other = openSockDiag();
      for (const [family, address] of [[AF_INET, "127.0.0.1"], [AF_INET6, "::1"]] as const) {
        const process = new Deno.Command("ip", {
          args: ["netns", "exec", name, "python3", "-uc", PROGRAM, address],
          stdout: "piped",
        }).spawn();
        const reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        const line = async () => {
          while (!text.includes("\n")) text += (await reader.read()).value ?? "(ended)\n";
          const end = text.indexOf("\n"), first = text.slice(0, end);
          text = text.slice(end + 1);
          return first;
        };
        assert.equal(await line(), "ready");
        const query = { family, protocol: UDP, destinationPort: 5353 };
        const [found, ...more] = listSockets(diag, query);
        assert.equal(more.length, 0);
        assert.equal(found.destinationPort, 5353);
        assert.deepEqual(found.destination, found.source);
        assert.ok(found.cookie > 0n);
        assert.equal(listSockets(diag, { ...query, destinationPort: 5354 }).length, 0);
        assert.equal(listSockets(other, query).some((s: InetSocket) => s.cookie === found.cookie), false);
        assert.equal(destroySocket(diag, { ...found, cookie: found.cookie + 1000n }), false);
        assert.equal(destroySocket(diag, found), true);
        assert.equal(await line(), "103"); // ECONNABORTED
        await process.status;
        assert.equal(destroySocket(diag, found), false);
      }
    } finally {
      ip("netns", "del", name);
    }
  },
});

Deno.test({
  name: "netnsCookie() tells namespaces apart",
  ignore: !root,
  fn: () => {
    const name = `wt-diag-${Deno.pid}-c`;
    const ip = (...args: string[]) => new Deno.Command("ip", { args }).outputSync();
    try {
      ip("netns", "add", name);
      using netns = Netns.open(`/run/netns/${name}`);
      const own = netnsCookie(), theirs = netnsCookie(netns);
      assert.ok(own !== undefined && theirs !== undefined && own !== theirs);
      assert.equal(netnsCookie(), own);
    } finally {
      ip("netns", "del", name);
    }
  },
});
