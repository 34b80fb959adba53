import { equal } from "node:assert/strict";
import { mountedAt } from "./pin.ts";

Deno.test("mountedAt() says what was mounted last at a path", () => {
  const mounts = "sysfs /sys sysfs ro 0 0\nsysfs /sys/fs/bpf sysfs ro 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n";
  equal(mountedAt(mounts, "/sys/fs/bpf"), "bpf");
  equal(mountedAt(mounts.split("bpf /sys")[0], "/sys/fs/bpf"), "sysfs");
  equal(mountedAt(mounts, "/sys/fs"), undefined);
});
