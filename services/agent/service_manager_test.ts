import { deepEqual, equal } from "node:assert/strict";
import { Logger, systemClock } from "@weir/common";
import { ServiceManager } from "./service_manager.ts";

/** Binds the socket that systemd would, and prints what comes until it says STOPPING. */
const RECEIVER = `import socket,sys
s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.bind(sys.argv[1]); s.settimeout(60); print('bound',flush=True)
while True:
    text=s.recv(4096).decode(); print(text.replace('\\n','|'),flush=True)
    if 'STOPPING' in text: break`;

/** Datagrams on unix sockets are behind --unstable-net, which scripts/weir gives the agent and the tests do not have. */
const SENDER = `import { Logger, systemClock } from "@weir/common";
import { ServiceManager } from ${JSON.stringify(import.meta.resolve("./service_manager.ts"))};
const manager = new ServiceManager({
  env: (name) => Deno.env.get(name), ownPath: Deno.env.get("OWN"), clock: systemClock, log: Logger.silent() });
await manager.notify("READY=1\\nSTATUS=every service is ready");
const stop = new AbortController();
const alive = manager.keepAlive(stop.signal);
await new Promise((resolve) => setTimeout(resolve, 100));
stop.abort();
await alive;
await manager.notify("STOPPING=1");
await manager.close();`;

Deno.test("ServiceManager tells systemd that the agent is ready, lives and stops", async () => {
  const directory = await Deno.makeTempDir();
  const receiver = new Deno.Command("python3", {
    args: ["-c", RECEIVER, `${directory}/notify`],
    stdout: "piped",
  }).spawn();
  const lines: string[] = [];
  let sent: Promise<Deno.CommandOutput> | undefined;
  for await (const chunk of receiver.stdout.pipeThrough(new TextDecoderStream())) {
    lines.push(...chunk.split("\n").filter((line) => line !== ""));
    sent ??= new Deno.Command(Deno.execPath(), {
      args: ["eval", "--quiet", "--unstable-net", SENDER],
      cwd: new URL(".", import.meta.url).pathname,
      env: { NOTIFY_SOCKET: `${directory}/notify`, WATCHDOG_USEC: "20000", OWN: `${directory}/own` },
    }).output();
  }
  await receiver.status;
  equal((await sent!).code, 0);
  equal(lines[1], "READY=1|STATUS=every service is ready");
  equal(lines.filter((line) => line === "WATCHDOG=1").length >= 2, true, lines.join());
  equal(lines.at(-1), "STOPPING=1");
  await Deno.remove(directory, { recursive: true });
});

Deno.test("ServiceManager is silent without a manager, and goes on when the manager is gone", async () => {
  const warned: string[] = [];
  const log = new Logger({ name: "test", write: (line) => warned.push(line) });
  const of = (variables: Record<string, string>) =>
    new ServiceManager({ env: (name) => variables[name], ownPath: "/none/own", clock: systemClock, log });
  await of({}).notify("READY=1");
  equal(of({}).watchdogMs, undefined);
  equal(of({ NOTIFY_SOCKET: "/x", WATCHDOG_USEC: "20000000" }).watchdogMs, 10_000);
  equal(of({ NOTIFY_SOCKET: "/x", WATCHDOG_USEC: "20000000", WATCHDOG_PID: "1" }).watchdogMs, undefined);
  deepEqual(warned, []);
  const gone = of({ NOTIFY_SOCKET: "/none/manager" });
  await gone.notify("READY=1");
  await gone.notify("WATCHDOG=1");
  equal(warned.length, 1, "it is said once");
  await gone.close();
});
