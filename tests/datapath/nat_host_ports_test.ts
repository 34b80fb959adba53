/**
 * Ports of translated flows and those that the kernel gives to the node's own sockets come from one range: here the very same one. The
 * node's connections all come about, and nobody hears what is another's.
 */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { Cluster, must, type Place, WORLD } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { natEntries } from "./nat_entries.ts";

const MIN = 40000, MAX = 40511;
const script = new URL("testdata/hold.py", import.meta.url).pathname;

/** Connections of a place that stay. */
class Held {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #read = "";
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;

  constructor(made: Cluster, place: Place, kind: string, port: number, times: number) {
    this.#child = new Deno.Command("ip", {
      args: ["netns", "exec", made.netns(place), "python3", script, kind, WORLD[0], `${port}`, `${times}`],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#writer = this.#child.stdin.getWriter();
  }
  /** A number that it says. */
  async number(): Promise<number> {
    while (!this.#read.includes("\n")) {
      const { value, done } = await this.#lines.read();
      assert.ok(!done, "it ended");
      this.#read += value;
    }
    const end = this.#read.indexOf("\n"), line = this.#read.slice(0, end);
    this.#read = this.#read.slice(end + 1);
    return Number(line);
  }
  async ask(): Promise<number> {
    await this.#writer.write(new TextEncoder().encode("\n"));
    return await this.number();
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close();
    await this.#lines.cancel();
    await this.#child.status;
  }
}

for (const kind of ["tcp", "udp"]) {
  kernelTest(
    `${kind}: the node's own connections come about at ports that pods have, and are not mixed up`,
    async () => {
      const made = await Cluster.open(abi.CONFIG_DIRECT | abi.CONFIG_MASQUERADE_V4);
      try {
        const [node] = made.nodes;
        node.writeConfig({ natPortMin: MIN, natPortMax: MAX });
        const range = `net.ipv4.ip_local_port_range=${MIN} ${MAX}`;
        await must("ip", "netns", "exec", made.netns("node1"), "sysctl", "-qw", range);
        await made.serve("outside", 8081);
        await using pod = new Held(made, "pod1", kind, 8081, 150);
        assert.equal(await pod.number(), 150);
        assert.equal(await pod.ask(), 150, "the pod's");
        await using own = new Held(made, "node1", kind, 8081, 100);
        assert.equal(await own.number(), 100, "the node's own come about");
        assert.equal(await own.ask(), 100, "and hear their own answers");
        const turned = natEntries(node).filter(({ entry }) => entry.flags & abi.NAT_HOST).length / 2;
        assert.ok(turned > 5, `${turned} had ports of the pod's`);
        // the other way round: the node's ports are nobody else's
        await using later = new Held(made, "pod1", kind, 8081, 20);
        assert.equal(await later.number(), 20);
        for (const round of [1, 2]) {
          assert.equal(await later.ask(), 20, `round ${round}`);
          assert.equal(await own.ask(), 100, `round ${round}`);
          assert.equal(await pod.ask(), 150, `round ${round}`);
        }
        console.log(`${kind}: ${turned} of the node's 100 were given other ports`);
      } finally {
        await made.close();
      }
    },
  );
}
