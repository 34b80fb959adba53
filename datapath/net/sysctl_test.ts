import { equal, throws } from "node:assert/strict";
import type { NetError } from "./errors.ts";
import { ensureSysctl, readSysctl, setSysctlDirectory, writeSysctl } from "./sysctl.ts";

Deno.test("ensureSysctl() writes below the directory it was told, and says what it cannot write", async () => {
  const directory = await Deno.makeTempDir();
  setSysctlDirectory(directory);
  try {
    await Deno.mkdir(`${directory}/ipv4/conf`, { recursive: true });
    await Deno.writeTextFile(`${directory}/ipv4/ip_forward`, "0\n");
    ensureSysctl("ipv4/ip_forward", "1");
    equal(readSysctl("ipv4/ip_forward"), "1");
    ensureSysctl("ipv6/conf/all/forwarding", "1"); // a kernel without IPv6
    equal(readSysctl("ipv6/conf/all/forwarding"), undefined);
    // Of a device that has a name like a directory nothing can be written, not by root either.
    await Deno.mkdir(`${directory}/ipv4/conf/lxc1`);
    equal(writeSysctl("ipv4/conf/lxc1", "0"), false);
    // The kernel's own refuses what is no number, as a read-only mount refuses everything.
    setSysctlDirectory("/proc/sys/net");
    throws(
      () => ensureSysctl("ipv4/ip_forward", "no number"),
      (error: NetError) =>
        error.code === "not-permitted" && /it is [01] and cannot be written/.test(error.message),
    );
  } finally {
    setSysctlDirectory("/proc/sys/net");
    await Deno.remove(directory, { recursive: true });
  }
});
