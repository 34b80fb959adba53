/**
 * Weir as it is installed on two servers under a real systemd each: a Debian package on one, scripts/install on the other;
 * init and join, with traffic between them that goes on all the time. One boot for all of it.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { SystemdHost, whyNoSystemd } from "./systemd_host.ts";
import { run } from "./weir.ts";

const name = `wt-e2e-${Deno.pid}`;
const reason = await whyNoSystemd();
if (reason !== undefined) console.log(`SKIP tests/e2e/systemd_test.ts: ${reason}`);

const POLICY = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: web }
spec: { endpointSelector: { matchLabels: { app: web } }, ingress: [{ fromEndpoints: [{ matchLabels: { app: client } }] }] }
`;

/** Two packages of this checkout that differ in their version. */
async function buildPackages(directory: string): Promise<[older: Uint8Array, newer: Uint8Array]> {
  const must = async (program: string, ...args: string[]) => {
    const ran = await run(program, args);
    assert.equal(ran.code, 0, `${program} ${args.join(" ")}: ${ran.out}${ran.err}`);
  };
  const [first, second, tree] = [`${directory}/1.deb`, `${directory}/2.deb`, `${directory}/tree`];
  await must("scripts/package", "--version", "0.1.0~1", "--output", first);
  await must("dpkg-deb", "-R", first, tree);
  const control = await Deno.readTextFile(`${tree}/DEBIAN/control`);
  await Deno.writeTextFile(`${tree}/DEBIAN/control`, control.replace("0.1.0~1", "0.1.0~2"));
  await must("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, second);
  return [await Deno.readFile(first), await Deno.readFile(second)];
}

/** A host with an agent under systemd. */
class Server {
  constructor(readonly host: SystemdHost, readonly pods: readonly string[]) {}

  async mainPid(): Promise<number> {
    return Number(await this.host.ok("systemctl", "show", "-P", "MainPID", "weir"));
  }

  /** Until systemd has put another agent in the place of this one and it is ready. */
  async replaced(pid: number): Promise<void> {
    await until(`systemd replaces agent ${pid} of ${this.host.name}`, async () => {
      const now = await this.mainPid();
      return now !== 0 && now !== pid && (await this.host.run("systemctl", "is-active", "weir")).code === 0;
    });
    await this.ready();
  }

  async ready(): Promise<void> {
    await this.host.ok("weir", "status", "--wait", "--timeout", "300");
    const group = "/sys/fs/cgroup/system.slice/weir.service/weir-host-l7-proxy";
    assert.match(
      await this.host.ok("cat", `${group}/cgroup.procs`),
      /^\d+$/m,
      "the L7 proxy has a group of its own",
    );
  }

  async isEnabled(): Promise<string> {
    return (await this.host.run("systemctl", "is-enabled", "weir")).out.trim();
  }

  async makePods(): Promise<void> {
    for (const pod of this.pods) await this.host.ok("ip", "netns", "add", pod);
  }

  /** Devices, rules and routes of the host and of its pods. */
  async devices(): Promise<string> {
    const inside = this.pods.map((pod) => `ip -n ${pod} -o link`).join("; ");
    return await this.host.sh(
      `ip -o link | sed 's/^[0-9]*: //; s/[@:].*//'; { ${inside}; } | cut -d: -f2; ip rule; ip route`,
    );
  }

  /** Nothing of Weir is there any more. */
  async isGone(before: string): Promise<void> {
    const { host } = this;
    assert.equal((await host.run("ls", "/sys/fs/bpf/weir")).code, 2, "no pins");
    assert.equal(await this.devices(), before, "devices, rules and routes are as they were");
    assert.equal((await host.run("getent", "passwd", "weir")).code, 2, "no user");
    const left = "find /etc /lib /run /tmp /usr /var -xdev -iname '*weir*' -not -path '*/man-db/*'";
    assert.equal(await host.sh(left), "", "no file");
    assert.equal(await host.sh("pgrep -f '^/usr/lib/weir' || true"), "", "no process");
  }

  /** scripts/install of the checkout. */
  async install(expected: RegExp, ...words: string[]): Promise<void> {
    const ran = await this.host.run(
      ...["env", "PATH=/run/runtime:/usr/sbin:/usr/bin", "DENO_DIR=/run/runtime/cache"],
      ...["/checkout/scripts/install", ...words],
    );
    assert.equal(ran.code, 0, ran.out + ran.err);
    assert.match(ran.out, expected);
  }

  async weir(...words: string[]): Promise<string> {
    return await this.host.ok("weir", ...words);
  }
}

/** A stream from the pod "client" of one host to the pod "web" of the other one, and who may connect. */
class Traffic {
  /** Of the pod web. */
  address = "";

  constructor(readonly web: SystemdHost, readonly client: SystemdHost) {}

  async #state(host: SystemdHost, role: string): Promise<Record<string, number> & { error?: string }> {
    return JSON.parse(await host.ok("cat", `/run/${role}.json`));
  }

  /** Starts the numbers that show what is lost. */
  async start(address: string): Promise<void> {
    this.address = address;
    const start = (host: SystemdHost, role: string, netns: string, ...words: string[]) =>
      host.ok(
        ...["systemd-run", `--unit=${role}`, `--setenv=STATE=/run/${role}.json`],
        ...[`--property=NetworkNamespacePath=/run/netns/${netns}`, "python3", "/root/numbered.py", ...words],
      );
    await start(this.web, "serving", "web", "serve", "80");
    await until(
      "the server listens",
      async () => (await this.web.run("test", "-e", "/run/serving.json")).code === 0,
    );
    await until("the client reaches it", () => this.#reaches("client", 3));
    await start(this.client, "sending", "client", "send", address, "80");
    await this.goesOn("at first");
  }

  async stop(): Promise<void> {
    await this.client.ok("systemctl", "stop", "sending");
    await this.web.ok("systemctl", "stop", "serving");
  }

  /** The stream goes on by fifty numbers, and nothing of it was lost since it began. */
  async goesOn(when: string): Promise<void> {
    const sent = async () => {
      const read = await this.client.run("cat", "/run/sending.json");
      const state = read.code === 0 ? JSON.parse(read.out) : { sent: 0, error: "" };
      assert.equal(state.error, "", `${when}: the TCP stream goes on`);
      return state.sent as number;
    };
    const before = await sent();
    await until(`${when}: the stream goes on`, async () => await sent() >= before + 50);
    await until(`${when}: every datagram has come`, async () => {
      const { sent: count } = await this.#state(this.client, "sending");
      return (await this.#state(this.web, "serving")).newest >= count;
    });
    const { datagrams, newest } = await this.#state(this.web, "serving");
    assert.equal(newest - datagrams, 0, `${when}: datagrams of ${newest} that were lost`);
  }

  async #reaches(netns: string, patienceS: number): Promise<boolean> {
    const script = `import socket; socket.create_connection((${
      JSON.stringify(this.address)
    }, 80), timeout=${patienceS})`;
    return (await this.client.run("ip", "netns", "exec", netns, "python3", "-c", script)).code === 0;
  }

  /** The stranger is refused from some moment on. */
  async isDenied(when: string): Promise<void> {
    await until(`${when}: the stranger may not`, async () => !await this.#reaches("stranger", 3));
  }

  /** What is allowed goes on, what is denied stays denied. */
  async holds(when: string): Promise<void> {
    await this.goesOn(when);
    await this.mayAndMayNot(when);
  }

  async mayAndMayNot(when: string): Promise<void> {
    await until(`${when}: the client may connect`, () => this.#reaches("client", 20));
    assert.equal(await this.#reaches("stranger", 3), false, `${when}: the stranger may not`);
  }
}

interface MachineRow {
  name: string;
  state: string;
  member?: { role: string };
}

/** Starts systemd-networkd with a file that matches every device. It must not wait for udev, which a container has not. */
const NETWORKD = `mkdir -p /etc/systemd/system/systemd-networkd.service.d /etc/systemd/network
printf '[Service]\\nReadOnlyPaths=/sys\\n' >/etc/systemd/system/systemd-networkd.service.d/container.conf
printf '[Match]\\nName=*\\n[Network]\\nLinkLocalAddressing=no\\nIPv6AcceptRA=no\\n' >/etc/systemd/network/90-all.network
systemctl daemon-reload
systemctl start systemd-networkd`;

Deno.test({
  name:
    "two servers with systemd: install, init and join, upgrade, kill, hang, stop, power loss, leave, remove, no trace",
  ignore: reason !== undefined,
  async fn(t) {
    // Each step stands on the one before.
    const step = async (name: string, run: () => Promise<void>) => assert.ok(await t.step(name, run), name);
    const directory = await Deno.makeTempDir({ prefix: name });
    try {
      const [older, newer] = await buildPackages(directory);
      await using hostA = await SystemdHost.boot(`${name}-a`);
      await using hostB = await SystemdHost.boot(`${name}-b`);
      const a = new Server(hostA, ["web"]), b = new Server(hostB, ["client", "stranger"]);
      const traffic = new Traffic(hostA, hostB);
      await SystemdHost.connect(hostA, "192.0.2.1", hostB, "192.0.2.2");
      await hostA.write("/root/1.deb", older);
      await hostA.write("/root/2.deb", newer);
      await hostA.write("/root/policy.yaml", POLICY);
      const numbered = await Deno.readTextFile(new URL("testdata/numbered.py", import.meta.url));
      for (const { host } of [a, b]) await host.write("/root/numbered.py", numbered);
      for (const server of [a, b]) await server.makePods();
      const beforeA = await a.devices(), beforeB = await b.devices();
      const rows = async (): Promise<string[][]> =>
        JSON.parse(await a.weir("cluster", "nodes", "-o", "json"))
          .map(({ name, state, member }: MachineRow) => [name.slice(-1), state, member?.role]);

      await step("installed, and not started", async () => {
        assert.match(await hostA.ok("dpkg", "--force-unsafe-io", "-i", "/root/1.deb"), /not started yet/);
        await b.install(/nothing of Weir is installed here/, "--uninstall");
        await b.install(/not started yet/);
        await b.install(/up to date/);
        const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        const refused = await hostB.run(...nobody, "/checkout/scripts/install");
        assert.equal(refused.code, 1);
        assert.match(refused.err, /needs root/);
        for (const { host } of [a, b]) {
          assert.equal((await host.run("systemctl", "is-active", "weir")).out.trim(), "inactive");
          assert.match(await host.ok("getent", "passwd", "weir"), /:\/usr\/sbin\/nologin$/m);
          assert.match(await host.ok("weir", "version"), /^weir /);
          assert.match(await host.sh("man -w weir weir-policy"), /weir-policy\.1/);
          assert.equal((await host.run("deno", "--version")).code, 127, "the machine has no deno but ours");
        }
      });

      await step("init on one, join on the other: enabled and up", async () => {
        assert.match(await a.weir("cluster", "init", "--listen", "192.0.2.1"), /The agent runs/);
        await a.ready();
        const token = (await a.weir("cluster", "token")).trim();
        assert.match(await b.weir("join", token), /is a member.*\n.*The agent runs/);
        await b.ready();
        for (const server of [a, b]) {
          assert.equal(await server.isEnabled(), "enabled");
          const users =
            (await server.host.sh("ps -eo user:20,args | grep /usr/lib/weir/bundles/ | grep -v grep"))
              .trim().split("\n");
          assert.ok(users.length >= 2 && users.every((line) => line.startsWith("weir ")), users.join("\n"));
        }
        assert.deepEqual(await rows(), [["a", "member", "control-plane"], ["b", "member", "node"]]);
      });

      await step("traffic under a policy across", async () => {
        for (const { host, pods } of [a, b]) {
          for (const pod of pods) {
            await host.ok("weir", "endpoint", "add", pod, "--netns", pod, "--label", `app=${pod}`, "--wait");
          }
        }
        const endpoints = JSON.parse(await a.weir("endpoint", "list", "-o", "json"));
        await traffic.start(endpoints.find((one: { name: string }) => one.name === "web").status.ipv4);
        await a.weir("policy", "apply", "-f", "/root/policy.yaml");
        await traffic.isDenied("with the policy");
        await traffic.holds("with the policy");
      });

      await step("the host's own network manager leaves Weir's devices alone", async () => {
        await hostB.sh(NETWORKD);
        const setup = async (device: string) =>
          (await hostB.run("networkctl", "--no-legend", "--no-pager", "list", device)).out.trim().split(/ +/)
            .at(-1);
        await until("networkd manages eth0", async () => await setup("eth0") === "configured");
        assert.equal(await setup("weir_vxlan"), "unmanaged");
        await traffic.holds("beside systemd-networkd");
        // Its socket would start it again at the next change of a link, and then it takes the host's own address away.
        await hostB.sh(
          `systemctl stop systemd-networkd.socket systemd-networkd
          rm -r /etc/systemd/system/systemd-networkd.service.d /etc/systemd/network/90-all.network`,
        );
      });

      await step("upgrade in place of both", async () => {
        const [pidA, pidB] = [await a.mainPid(), await b.mainPid()];
        await hostA.sh("echo 'logLevel: info' >>/etc/weir/weir.yaml");
        await hostB.sh("echo 'logLevel: info' >>/etc/weir/weir.yaml");
        const upgraded = await hostA.ok("dpkg", "--force-unsafe-io", "-i", "/root/2.deb");
        assert.match(upgraded, /starting the agent in its new version/);
        assert.notEqual(await a.mainPid(), pidA, "the upgrade starts the agent anew");
        assert.match(await hostA.ok("dpkg-query", "-W", "weir"), /0\.1\.0~2/);
        assert.match(
          await hostA.ok("cat", "/etc/weir/weir.yaml"),
          /^logLevel: info$/m,
          "what was changed stays",
        );
        await a.ready();
        await traffic.holds("after the upgrade of the control plane");
        // A file that is lacking is put back, as by an upgrade: in place, and the agent is started anew.
        await hostB.ok("rm", "/usr/share/man/man1/weir.1.gz");
        await b.install(/weir\.yaml: yours stays[^]*new version/);
        assert.notEqual(await b.mainPid(), pidB);
        await hostB.ok("test", "-e", "/usr/share/man/man1/weir.1.gz");
        await b.ready();
        await traffic.holds("after the upgrade of the node");
      });

      await step("kill -9, stop and start, and a hung agent", async () => {
        const pidA = await a.mainPid();
        await hostA.ok("kill", "-KILL", `${pidA}`);
        await a.replaced(pidA);
        await traffic.holds("after kill -9 of the control plane's agent");
        await hostB.ok("systemctl", "stop", "weir");
        await traffic.holds("while the node's agent is stopped");
        await hostB.sh(`mkdir -p /etc/systemd/system/weir.service.d
          printf '[Service]\\nWatchdogSec=10\\n' >/etc/systemd/system/weir.service.d/watchdog.conf
          systemctl daemon-reload; systemctl start weir`);
        await b.ready();
        const pidB = await b.mainPid();
        await hostB.ok("kill", "-STOP", `${pidB}`);
        await b.replaced(pidB);
        assert.match(await hostB.ok("journalctl", "-u", "weir", "--no-pager"), /Watchdog timeout/);
        await traffic.holds("after the node's agent hung");
        await hostB.sh("rm -r /etc/systemd/system/weir.service.d; systemctl daemon-reload");
      });

      await step("the node loses its power and comes back by itself", async () => {
        await traffic.stop();
        await hostB.reboot();
        await SystemdHost.connect(hostA, "192.0.2.1", hostB, "192.0.2.2");
        await b.makePods();
        // basic.target is what it boots; what is enabled hangs on multi-user.target, with much of the distribution.
        assert.match(
          await hostB.ok("systemctl", "show", "-P", "Wants", "multi-user.target"),
          /weir\.service/,
        );
        await hostB.ok("systemctl", "start", "weir");
        await b.ready();
        await hostA.sh("rm -f /run/serving.json");
        await traffic.start(traffic.address);
        await traffic.holds("after the power loss");
        await traffic.stop();
      });

      await step("leave, join again with the unit elsewhere, and be removed", async () => {
        assert.match(await b.weir("cluster", "leave"), /has left cluster/);
        assert.equal(await b.isEnabled(), "disabled");
        assert.deepEqual(await rows(), [["a", "member", "control-plane"], ["b", "removed", "node"]]);
        await hostB.sh("mv /lib/systemd/system/weir.service /etc/systemd/system/; systemctl daemon-reload");
        const token = (await a.weir("cluster", "token")).trim();
        assert.match(await b.weir("join", token), /The agent runs/);
        assert.equal(await b.isEnabled(), "enabled");
        await b.ready();
        await hostB.sh("mv /etc/systemd/system/weir.service /lib/systemd/system/; systemctl daemon-reload");
        await a.weir("cluster", "remove", hostB.name);
        await until(
          "the removed node says so",
          async () => /is no member any more/.test((await hostB.run("weir", "status")).out),
        );
        assert.match(await b.weir("cluster", "leave", "--force"), /has left cluster/);
      });

      await step("removed from both without a trace", async () => {
        await b.install(/done/, "--uninstall", "--purge");
        await b.isGone(beforeB);
        await hostA.ok("dpkg", "--remove", "weir");
        assert.match(await hostA.ok("cat", "/etc/weir/weir.yaml"), /logLevel/, "what was configured stays");
        await hostA.ok("dpkg", "--purge", "weir");
        await a.isGone(beforeA);
      });

      await step("a host by itself", async () => {
        await b.install(/not started yet/);
        await hostB.sh("echo 'controlPlane: true' >>/etc/weir/weir.yaml; systemctl enable --now weir");
        await b.ready();
        await hostB.sh("sed -i 's/:[0-9]*,/:99,/' /var/lib/weir/host/version.json");
        assert.notEqual((await hostB.run("systemctl", "restart", "weir")).code, 0);
        const log = await hostB.ok("journalctl", "-u", "weir", "--no-pager");
        assert.match(log, /Cannot start: the state in \/var\/lib\/weir\/host is that of a newer version/);
        await until(
          "it is not tried again",
          async () => (await hostB.run("systemctl", "is-failed", "weir")).out.trim() === "failed",
        );
        await b.install(/done/, "--uninstall", "--purge");
        await b.isGone(beforeB);
      });
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
