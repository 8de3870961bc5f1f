"""A security key in software for the real ssh-keygen and ssh-agent: a library that they load as SSH_SK_PROVIDER.

A key's handle is its seed. CALYX_TEST_SK_FLAGS, a number, is signed as the flags instead of those that were asked for.

Source: OpenSSH sk-api.h. OpenSSH takes only its own version of the interface; what is used here of it has not changed.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

from authenticator import Token
from programs import missing, require_program

_SOURCE: Final = r"""
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>

struct answer { uint8_t flags; uint32_t counter; uint8_t *r; size_t r_len; uint8_t *s; size_t s_len; };

uint32_t sk_api_version(void) { return VERSION; }

int sk_enroll(void) { return -2; }

int sk_load_resident_keys(void) { return -2; }

static int digest(const void *data, size_t size, uint8_t *out)
{
    unsigned int length = 32;
    return EVP_Digest(data, size, out, &length, EVP_sha256(), NULL) == 1;
}

int sk_sign(uint32_t alg, const uint8_t *data, size_t size, const char *application, const uint8_t *handle,
    size_t handle_size, uint8_t flags, const char *pin, void *options, struct answer **out)
{
    const char *named = getenv("CALYX_TEST_SK_FLAGS");
    uint8_t signed_bytes[32 + 1 + 4 + 32];
    size_t length = 64;
    EVP_PKEY *key = NULL;
    EVP_MD_CTX *context = NULL;
    struct answer *answer = calloc(1, sizeof(*answer));
    int ok = 0;

    (void)pin;
    (void)options;
    *out = NULL;
    if (answer == NULL || alg != 1 || handle_size != 32)
        goto end;
    answer->flags = named == NULL ? flags : (uint8_t)atoi(named);
    answer->counter = 7;
    answer->r_len = 64;
    if ((answer->r = calloc(1, 64)) == NULL)
        goto end;
    if (!digest(application, strlen(application), signed_bytes) || !digest(data, size, signed_bytes + 37))
        goto end;
    signed_bytes[32] = answer->flags;
    memcpy(signed_bytes + 33, "\0\0\0\7", 4);
    key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, handle, 32);
    context = EVP_MD_CTX_new();
    if (key == NULL || context == NULL)
        goto end;
    if (EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1)
        goto end;
    ok = EVP_DigestSign(context, answer->r, &length, signed_bytes, sizeof(signed_bytes)) == 1;
end:
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    if (!ok) {
        if (answer != NULL)
            free(answer->r);
        free(answer);
        return -1;
    }
    *out = answer;
    return 0;
}
"""


def build_provider(folder: Path) -> Path:
    """Compile the library for the installed OpenSSH; its path. Needs gcc and libcrypto's headers."""
    library = folder / "sk.so"
    _compile(library, 0)
    # Refusing version 0, it says which one it wants.
    token = Token()
    key = folder / "key"
    key.write_text(token.key_file(token.seed), "ascii")
    key.chmod(0o600)
    done = subprocess.run(
        [require_program("ssh-keygen"), "-Y", "sign", "-n", "x", "-f", str(key)],
        env={**os.environ, "SSH_SK_PROVIDER": str(library)},
        input="x",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    wanted = re.search(r"supported: (0x[0-9a-f]{8})", done.stderr)
    assert wanted is not None, done.stderr
    _compile(library, int(wanted[1], 16))
    return library


def _compile(library: Path, version: int) -> None:
    source = library.with_suffix(".c")
    source.write_text(_SOURCE, "ascii")
    flags = ["-shared", "-fPIC", "-Wall", "-Werror", f"-DVERSION={version}u"]
    done = subprocess.run(
        [require_program("gcc"), *flags, "-o", str(library), str(source), "-lcrypto"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "openssl/evp.h" in done.stderr:
        missing("libcrypto's headers are not installed")
    assert done.returncode == 0, done.stderr
