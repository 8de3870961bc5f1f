#!/bin/sh
# Check one approval with stock tools: sh check.sh [DIR]
#
# DIR: the kit; else the directory of this file. Needs ssh-keygen (OpenSSH 8.2), openssl (3.0), sha256sum and a POSIX
# shell with its usual tools. Prints a line for each step; ends with 0 only if all of them hold. README.txt says what
# each one proves. This text is the same in every kit: take it from a source that you trust more than the kit.
set -eu
LC_ALL=C
export LC_ALL
CDPATH='' cd -- "${1:-$(dirname -- "$0")}"

ok() { printf 'ok   %s\n' "$*"; }
note() { printf -- '--   %s\n' "$*"; }
no() {
    printf 'NO   %s\n' "$*"
    exit 1
}
same() { cmp -s - "$1"; }
hex() { od -An -v -tx1 | tr -d ' \n'; }
digest() { sha256sum | cut -c 1-64; }
base64() { openssl base64 -A; }
unbase64() { openssl base64 -d -A; }
lower() { printf '%s' "$1" | tr '[:upper:]' '[:lower:]'; }
bytes() { # of hex digits
    h=$1
    while [ -n "$h" ]; do
        t=${h#??}
        b=$((0x${h%"$t"}))
        printf '%b' "\\0$((b / 64))$((b / 8 % 8))$((b % 8))"
        h=$t
    done
}
public() { # raw key of a PEM file in its one spelling, as hex digits
    openssl pkey -pubin -in "$1" -pubout 2>/dev/null | same "$1" || return 1
    der=$(openssl pkey -pubin -in "$1" -pubout -outform DER 2>/dev/null | hex)
    [ "${#der}" -eq 88 ] && [ "${der#302a300506032b6570032100}" != "$der" ] || return 1
    printf '%s' "${der#302a300506032b6570032100}"
}
signed() { # by the Ed25519 key $1: the file $2, with the signature $3
    [ "$(($(wc -c <"$3")))" -eq 64 ] &&
        openssl pkeyutl -verify -pubin -inkey "$1" -rawin -in "$2" -sigfile "$3" >/dev/null 2>&1
}

# The files, against accidents: whoever can write them can write the list as well.
for file in *; do [ "$file" = SHA256SUMS ] || sha256sum "$file"; done | same SHA256SUMS ||
    no 'the files are not those that SHA256SUMS lists'
ok 'files: as they were written'

# The checkpoint: C2SP signed-note, tlog-checkpoint.
log=$(public log.pem) || no 'log.pem is no Ed25519 key'
signed log.pem checkpoint.text checkpoint.sig || no 'checkpoint: not signed by the key in log.pem'
{ IFS= read -r origin && IFS= read -r size && IFS= read -r root; } <checkpoint.text || no 'checkpoint: not three lines'
printf '%s\n%s\n%s\n' "$origin" "$size" "$root" | same checkpoint.text || no 'checkpoint: not three lines'
case $size in '' | 0* | *[!0-9]*) no 'checkpoint: its size is no number' ;; esac
[ "${#size}" -le 16 ] || no 'checkpoint: its size is no number'
keyid=$({
    printf '%s\n\001' "$origin"
    bytes "$log"
} | digest | cut -c 1-8)
{
    cat checkpoint.text
    printf '\n\342\200\224 %s ' "$origin"
    { bytes "$keyid" && cat checkpoint.sig; } | base64
    printf '\n'
} | same checkpoint || no 'checkpoint: the note is not its text and signature'
root=$(printf '%s' "$root" | unbase64 | hex)
ok "checkpoint: $size entries of $(printf '%s' "$origin" | tr -cd '[:print:]'), signed by the key in log.pem"

# What is here: the lease, the trust root, and what was said.
lease='' trust=0 trusts='' votes='' objections='' claims='' newest=0
for file in entry-*.json; do
    n=${file#entry-}
    n=${n%.json}
    case $n in '' | 0?* | *[!0-9]*) no "$file: not an entry" ;; esac
    [ "$n" != 0 ] || continue
    kind=$(sed -n 's|^.*},"predicateType":"https://station\.calyx/\([a-z]*\)/v1","subject":.*$|\1|p' "$file")
    case $kind in
    lease)
        [ -z "$lease" ] || no 'there are two leases'
        lease=$n
        ;;
    trust)
        trusts="$trusts $n"
        [ "$n" -le "$trust" ] || trust=$n
        ;;
    cosignature)
        votes="$votes $n"
        [ "$n" -le "$newest" ] || newest=$n
        ;;
    objection) objections="$objections $n" ;;
    claim) claims="$claims $n" ;;
    *) no "entry $n: a kit holds no such statement" ;;
    esac
done
[ -n "$lease" ] || no 'there is no lease'

# The revoked list is that of the newest trust root that came along.
compromised=$(sed -n 's|^.*"compromised":\[\([^]]*\)\],"expires":".*$|\1|p' "entry-$trust.json" | tr '{' '\n' |
    sed -n 's|^"key":"\([^"]*\)","position":\([0-9]*\)},\{0,1\}$|\2 \1|p')
printf '%s\n' "$compromised" | sed '/^$/d' |
    while read -r from key; do [ "$from" -gt "$newest" ] || printf '%s\n' "$key"; done |
    same revoked || no "revoked: not the keys that the trust root of entry $trust says are compromised"
ok "revoked: as the trust root of entry $trust says, up to entry $newest"

# One entry: its signature, its record, its place in the tree. Sets kind, by, about, ledger, leaf, text.
entry() {
    e=entry-$1
    text=$(cat "$e.json")
    end=$(sed -n 's|^.*},"predicateType":"https://station\.calyx/\([a-z]*\)/v1","subject":\[{"digest":{"sha256":"\([0-9a-f]*\)"},"name":"\([A-Za-z0-9._-]*\)"}\]}$|\1 \2 \3|p' "$e.json")
    kind=${end%% *}
    about=${end#* }
    name=${about#* }
    about=${about%% *}
    by=${text#*'"by":"'}
    by=${by%%'"'*}
    ledger=${text#*',"ledger":"'}
    ledger=${ledger%%'"'*}
    case $kind:$by in :* | *: | *[!A-Za-z0-9._:-]*) no "entry $1: not a statement" ;; esac
    {
        printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(($(wc -c <"$e.json")))"
        cat "$e.json"
    } | same "$e.pae" || no "entry $1: the signed bytes are not those of the statement"

    frame='{"envelope":{"payload":"\([A-Za-z0-9+/=]*\)","payloadType":"application/vnd.in-toto+json","signatures":\[{"keyid":"\(SHA256:[A-Za-z0-9+/]*\)","sig":"\([A-Za-z0-9+/=]*\)"}\]},"prev":"[0-9a-f]*","seq":\([0-9]*\),"time":"\([0-9TZ:-]*\)"}'
    [ "$(sed -n "s|^$frame\$|\\1|p" "$e.record")" = "$(base64 <"$e.json")" ] ||
        no "entry $1: the record does not hold the statement"
    [ "$(sed -n "s|^$frame\$|\\4|p" "$e.record")" = "$1" ] || no "entry $1: the record is another entry"
    keyid=$(sed -n "s|^$frame\$|\\2|p" "$e.record")
    sig=$(sed -n "s|^$frame\$|\\3|p" "$e.record")
    time=$(sed -n "s|^$frame\$|\\5|p" "$e.record")

    how=
    if [ -f "$e.sig" ]; then
        {
            echo '-----BEGIN SSH SIGNATURE-----'
            printf '%s' "$sig" | fold -w 70
            printf '\n-----END SSH SIGNATURE-----\n'
        } | same "$e.sig" || no "entry $1: the record does not hold the signature"
        space=statement-v1@station.calyx
        [ "$kind" != cosignature ] || space=approval-v1@station.calyx
        blob=$(printf '%s' "$sig" | unbase64 | hex)
        case $blob in 53534853494700000001000000??*) ;; *) no "entry $1: not an SSH signature" ;; esac
        key=$(printf '%s' "$blob" | cut -c "29-$((28 + 2 * 0x$(printf '%s' "$blob" | cut -c 21-28)))")
        type=ssh-ed25519
        case $key in
        0000001a736b2d*)
            type=sk-ssh-ed25519@openssh.com
            flags=$((0x$(printf '%s' "$blob" | cut -c "$((${#blob} - 9))-$((${#blob} - 8))")))
            [ "$((flags & 1))" -eq 1 ] || no "entry $1: the token was not touched"
            how=', by touch'
            [ "$((flags & 4))" -eq 0 ] || how="$how, user verified"
            ;;
        esac
        line="$type $(bytes "$key" | base64)"
        ssh-keygen -Y verify -f allowed_signers -I "$by" -n "$space" -s "$e.sig" <"$e.pae" >/dev/null 2>&1 ||
            no "entry $1: ssh-keygen refuses the signature by $by"
        grep -qFx "$by namespaces=\"$space\" $line" allowed_signers || no "entry $1: $by has no such line in allowed_signers"
    else
        [ "$(base64 <"$e.ed25519")" = "$sig" ] || no "entry $1: the record does not hold the signature"
        key=$(public "$e.pem") || no "entry $1: $e.pem is no Ed25519 key"
        signed "$e.pem" "$e.pae" "$e.ed25519" || no "entry $1: openssl refuses the signature by $by"
        key=0000000b7373682d6564323535313900000020$key
        line="ssh-ed25519 $(bytes "$key" | base64)"
        grep -qFx "$by $line" machines || no "entry $1: $by has no such line in machines"
    fi
    found=$(bytes "$(bytes "$key" | digest)" | base64)
    [ "SHA256:${found%=}" = "$keyid" ] || no "entry $1: the record names another key"
    ok "entry $1: $kind, signed by $by with $keyid$how"

    # RFC 6962: the path from the leaf up to the root that the checkpoint signs.
    sed '1,/^$/d' "$e.tlog-proof" | same checkpoint || no "entry $1: the proof is for another checkpoint"
    leaf=$({
        printf '\000'
        cat "$e.record"
    } | digest)
    hash=$leaf at=$1 last=$((size - 1))
    [ "$at" -le "$last" ] || no "entry $1: the checkpoint has no such entry"
    {
        IFS= read -r row
        [ "$row" = c2sp.org/tlog-proof@v1 ] || no "entry $1: not a proof"
        IFS= read -r row
        [ "$row" = "index $1" ] || no "entry $1: the proof is of another entry"
        while IFS= read -r row && [ -n "$row" ]; do
            beside=$(printf '%s' "$row" | unbase64 | hex)
            [ "${#beside}" -eq 64 ] && [ "$(bytes "$beside" | base64)" = "$row" ] || no "entry $1: not a proof"
            [ "$last" -gt 0 ] || no "entry $1: the proof is too long"
            if [ "$((at % 2))" -eq 1 ] || [ "$at" -eq "$last" ]; then
                hash=$(bytes "01$beside$hash" | digest)
                while [ "$((at % 2))" -eq 0 ] && [ "$at" -gt 0 ]; do at=$((at / 2)) last=$((last / 2)); done
            else
                hash=$(bytes "01$hash$beside" | digest)
            fi
            at=$((at / 2)) last=$((last / 2))
        done
    } <"$e.tlog-proof"
    [ "$last" -eq 0 ] && [ "$hash" = "$root" ] || no "entry $1: its leaf does not lead to the checkpoint's root"
    ok "entry $1: in the tree of the checkpoint, recorded $time"
}

# Entry 0 names the log's key, and its leaf names the ledger.
entry 0
[ "$kind" = genesis ] || no 'entry 0: not the genesis'
spelled=$(printf '%s+%s+' "$origin" "$({
    printf '%s\n\001' "$origin"
    bytes "$log"
} | digest | cut -c 1-8)" | sed 's/[\\"]/\\&/g')$(bytes "01$log" | base64)
case $text in *"\"log_key\":\"$spelled\","*) ;; *) no 'entry 0: names another log key' ;; esac
this=$leaf
ok "ledger: $this, which names the key in log.pem as its log's"

for n in $trusts; do
    entry "$n"
    [ "$ledger" = "$this" ] || no "entry $n: for another ledger"
done

entry "$lease"
[ "$ledger" = "$this" ] || no "entry $lease: for another ledger"
wanted=$(digest <"entry-$lease.json")
named=${text#*',"id":"'}
named=${named%%'"'*}
case $named in '' | *[!A-Za-z0-9._-]*) no "entry $lease: not a lease" ;; esac
ok "lease: $named, digest $wanted"

concerns() { # Prove that entry $1 is about the lease.
    entry "$1"
    [ "$ledger" = "$this" ] || no "entry $1: for another ledger"
    [ "$about" = "$wanted" ] && [ "$name" = "$named" ] || no "entry $1: about another lease"
}
field() { # $1 of a statement whose predicate has the fields $2 between head and the end
    printf '%s\n' "$text" | sed -n 's|^{"_type":"https://in-toto\.io/Statement/v1","predicate":{"by":"[A-Za-z0-9._-]*","head":{"hash":"[0-9a-f]*","size":\([0-9]*\)},"ledger":"[0-9a-f]*","made_at":"[0-9TZ:-]*","nonce":"[0-9a-f]*",'"$2"'},"predicateType":.*$|'"\\$1"'|p'
}

withdrawn=''
for n in $objections; do
    concerns "$n"
    verb=$(field 2 '"reason":".*","verb":"\([a-z]*\)"')
    case $verb in
    deny) no "entry $n: $by denied this lease for good" ;;
    withdraw) withdrawn="$withdrawn $n:$(lower "$by")" ;;
    *) no "entry $n: not an objection" ;;
    esac
    note "entry $n: $by withdrew what it had cosigned before"
done

standing='' counted=' '
for n in $votes; do
    concerns "$n"
    head=$(field 1 '"review":[a-z0-9"]*,"role":"[a-z]*"')
    role=$(field 2 '"review":[a-z0-9"]*,"role":"\([a-z]*\)"')
    [ -n "$head" ] && [ -n "$role" ] || no "entry $n: not a cosignature"
    stands=yes
    for each in $withdrawn; do
        [ "${each#*:}" != "$(lower "$by")" ] || [ "$head" -gt "${each%%:*}" ] || stands=no
    done
    if [ "$stands" = no ]; then
        note "entry $n: withdrawn"
        continue
    fi
    from=$(printf '%s\n' "$compromised" | sed -n "s|^\([0-9]*\) $line\$|\1|p")
    if [ -n "$from" ] && [ "$n" -lt "$from" ]; then
        note "entry $n: the key of $by is compromised, from entry $from on"
    elif [ -f "entry-$n.sig" ]; then
        ssh-keygen -Y verify -f allowed_signers -I "$by" -n "$space" -s "entry-$n.sig" -r revoked <"entry-$n.pae" \
            >/dev/null 2>&1 || no "entry $n: the key of $by is revoked"
    else
        ! grep -qFx "$line" revoked || no "entry $n: the key of $by is revoked"
    fi
    standing="${standing:+$standing, }$by ($role, entry $n)" counted="$counted$n "
    id=$(printf '%s' "$by" | sed 's/\./\\./g') root_of=''
    for each in 0 $trusts; do
        ! grep -q "\"id\":\"$id\",\"keys\":\[[^]]*{\"key\":\"$line\",\"user_verification\":" "entry-$each.json" ||
            root_of=$each
    done
    [ -n "$root_of" ] || no "entry $n: no trust root in this kit gives its key to $by"
    ok "entry $n: $by cosigned $named as $role, with a key that the trust root of entry $root_of gives to $by"
done
[ -n "$standing" ] || no 'no cosignature stands'

for n in $claims; do
    concerns "$n"
    pair=$(printf '%s\n' "$text" | sed -n 's|^.*,"counted":\[\([0-9]*\),\([0-9]*\)\],"epoch":.*$|\1 \2|p')
    [ -n "$pair" ] || no "entry $n: not a claim"
    for each in $pair; do
        case $counted in *" $each "*) ;; *) no "entry $n: counts entry $each, which does not stand here" ;; esac
    done
    ok "entry $n: $by claimed $named and counted the entries $pair; no withdrawal is lawful after it"
done

ok "$named stands cosigned by $standing"
