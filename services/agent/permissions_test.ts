import { deepEqual, equal, match, throws } from "node:assert/strict";
import { AgentConfigError, readAgentConfig } from "./config.ts";
import { type Layout, unprivilegedUser } from "./layout.ts";
import { commandOf, serviceSpecs } from "./permissions.ts";

const layout: Layout = {
  instance: "x",
  sockets: "/run/weir/x",
  state: "/var/lib/weir/x",
  code: "/run/weir/.code",
  uid: 65534,
  gid: 65534,
};
const config = (...args: string[]) => readAgentConfig(["--control-plane", ...args]);

Deno.test("serviceSpecs() gives FFI, programs and root to the datapath alone", () => {
  for (const spec of serviceSpecs(config(), layout, "n")) {
    const command = commandOf(spec, layout, "/code.js", "/deno.json").join(" ");
    if (spec.name === "datapath") {
      match(command, /--bounding-set=-all,\+bpf/);
      continue;
    }
    equal(
      /--allow-(all|ffi|run|import|read(?!=)|write(?!=)|net(?!=)|sys(?!=))/.test(command),
      false,
      command,
    );
    match(command, /--reuid=65534 --regid=65534 --clear-groups --bounding-set=-all/);
    match(command, /--allow-write=\/run\/weir\/x,\/var\/lib\/weir\/x/);
  }
});

Deno.test("serviceSpecs() starts the control plane only where it is asked for, and names its peers elsewhere", () => {
  const node = readAgentConfig([
    "--identity-allocator",
    "unix:/a/ia.sock",
    "--policy-engine",
    "https://10.0.0.1:9902",
  ]);
  const specs = serviceSpecs(node, layout, "n");
  deepEqual(specs.map((spec) => spec.name), ["datapath", "endpoint-manager", "flow-exporter"]);
  const net = specs[1].permissions.find((flag) => flag.startsWith("--allow-net="))!;
  match(net, /unix:\/a\/ia\.sock/);
  match(net, /10\.0\.0\.1:9902/);
  equal(serviceSpecs(config(), layout, "n").length, 6);
});

Deno.test("serviceSpecs() opens the network to the database that was named, and to no other host", () => {
  const spec = serviceSpecs(config("--database-url", "postgres://u:p@db.example:5433/weir"), layout, "n")
    .find((spec) => spec.name === "identity-allocator")!;
  const net = spec.permissions.find((flag) => flag.startsWith("--allow-net="))!;
  deepEqual(net.slice("--allow-net=".length).split(","), [
    "unix:/run/weir/x/identity-allocator.sock",
    "db.example:5433",
    "localhost:80",
  ]);
});

Deno.test("readAgentConfig() refuses an instance that is no name, and a node without a control plane", () => {
  for (const instance of ["", "A", "a/b", "-a", "../x"]) {
    throws(() => config("--instance", instance), AgentConfigError, instance);
  }
  throws(() => config("--routing-mode", "magic"), AgentConfigError);
  throws(() => readAgentConfig([]), AgentConfigError);
});

Deno.test("unprivilegedUser() prefers weir to nobody and never takes root", () => {
  deepEqual(unprivilegedUser("root:x:0:0\nnobody:x:65534:65534\nweir:x:990:991\n"), { uid: 990, gid: 991 });
  deepEqual(unprivilegedUser("nobody:x:65534:65534\n"), { uid: 65534, gid: 65534 });
  throws(() => unprivilegedUser("weir:x:0:0\n"));
});
