"""Compiles the adapters with stand-ins for the SDK's types and the programs that drive them.

Java 8, with JDK 17 and Android's org.json; Objective-C with ARC, on GNUstep (see ios/platform/README.md).
"""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ADAPTERS: Final = HERE.parents[1] / "deploy" / "clients"
ANDROID, IOS = ADAPTERS / "android", ADAPTERS / "ios"
PLATFORM: Final = HERE / "ios" / "platform"
JSON_JAR: Final = Path("/usr/share/java/json-android.jar")
FOUNDATION: Final = Path("/usr/include/GNUstep/Foundation/Foundation.h")

JAVA_PACKAGES: Final = "openjdk-17-jdk-headless libandroid-json-org-java"
OBJC_PACKAGES: Final = "clang gobjc libgnustep-base-dev libblocksruntime-dev libcurl4-openssl-dev"

WARNINGS: Final = ("-Wall", "-Wextra", "-Werror")
ARC: Final = ("-fobjc-arc", "-include", str(PLATFORM / "URLSession.h"))


class Missing(Exception):
    """A tool is not installed; the text names the packages of Debian 12 that bring all."""


def android(directory: Path, *more: Path) -> list[str]:
    """Compile the Java driver, and more sources, into `directory`; give the command that runs it. Raises Missing."""
    if not (shutil.which("javac") and JSON_JAR.is_file()):
        raise Missing(f"Java or Android's org.json is missing: apt-get install {JAVA_PACKAGES}")
    sources = [*ANDROID.glob("*.java"), *(HERE / "android").rglob("*.java"), *more]
    options = ("--release", "8", "-encoding", "UTF-8", "-Xlint:all,-options", "-Werror", "-cp", JSON_JAR, "-d", directory)
    run("javac", *options, *sources)
    # A JDK reads what is left of a closed answer in a thread that others then wait for, so that even a close may take as long as a server
    # likes; Android closes at once, and so does a JDK with this.
    close_at_once = "-Dhttp.KeepAlive.remainingData=0"
    return ["java", "-XX:TieredStopAtLevel=1", close_at_once, "-cp", f"{directory}:{JSON_JAR}", "Driver"]


def ios(directory: Path) -> list[str]:
    """Compile the Objective-C driver into `directory`; give the command that runs it. Raises Missing."""
    options = objc_options()
    gcc_libraries = Path(run("gcc", "-print-file-name=libobjc.so").strip()).parent
    libraries = ("-lBlocksRuntime", "-lgnustep-base", f"-L{gcc_libraries}", "-lobjc", "-lcurl", "-ldl", "-pthread")
    objects = [
        compiled(PLATFORM / "arc.c", directory, ()),
        compiled(PLATFORM / "blocks.m", directory, options),
        *(
            compiled(source, directory, (*options, *ARC))
            for source in (PLATFORM / "URLSession.m", HERE / "ios" / "driver.m", IOS / "GatewayNetworkProxy.m")
        ),
    ]
    program = directory / "driver"
    run("clang", "-rdynamic", *objects, "-o", program, *libraries)
    return [str(program)]


def compiled(source: Path, directory: Path, options: Iterable[str]) -> Path:
    """Compile one source file; give the object file."""
    target = directory / f"{source.stem}.o"
    run("clang", "-c", "-g", *WARNINGS, *options, source, "-o", target)
    return target


def objc_options() -> tuple[str, ...]:
    """Give clang's options for Objective-C on Debian's GNUstep. Raises Missing."""
    if not (shutil.which("clang") and shutil.which("gcc") and FOUNDATION.is_file() and Path("/usr/include/Block.h").is_file()):
        raise Missing(f"clang or GNUstep is missing: apt-get install {OBJC_PACKAGES}")
    return (
        *("-fblocks", "-fexceptions", "-fobjc-exceptions", "-fconstant-string-class=NSConstantString", "-pthread"),
        *("-fobjc-runtime=gnustep-1.6", "-Xclang", "-fobjc-dispatch-method=legacy"),
        *("-DGNUSTEP", "-DGNUSTEP_BASE_LIBRARY=1", "-DGNU_RUNTIME=1", "-D_NATIVE_OBJC_EXCEPTIONS"),
        *(f"-I{folder}" for folder in (PLATFORM, HERE / "ios", IOS)),
        *("-isystem", str(FOUNDATION.parents[1]), "-isystem", run("gcc", "-print-file-name=include").strip()),
    )


def run(*command: str | Path) -> str:
    """Run a tool; give what it printed. What it complains of is the text of the assertion."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
