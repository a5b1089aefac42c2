# One of Debian's kernels, unpacked and never installed: sourced by what packs an initrd around it.
# Expects die(), and from its caller: $modules, the unpacked lib/modules/RELEASE, and $root, the
# tree that becomes the initrd.

# The package a meta package stands for; any other name as it is.
kernel_package() {
	local package

	package=$(apt-cache depends "$1" |
		sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n 1)
	echo "${package:-$1}"
}

# fetch_kernel PACKAGE CACHE: downloads the version apt would install unless it is in the cache;
# prints the file's name.
fetch_kernel() {
	local package version file cache=$2

	package=$(kernel_package "$1")
	version=$(apt-cache show --no-all-versions "$package" 2>/dev/null | sed -n 's/^Version: //p')
	[ -n "$version" ] || die "apt knows no $1 (apt-get update?)"
	file=$cache/${package}_${version//:/%3a}_amd64.deb
	if [ ! -f "$file" ]; then
		mkdir -p "$cache"
		(cd "$cache" && apt-get -qq -o APT::Sandbox::User=root download "$package") >&2
		[ -f "$file" ] || die "apt-get download $package left no $file"
	fi
	echo "$file"
}

# The file of a module, whose name may be spelled with - or _.
module_file() {
	local pattern=${1//_/[-_]}

	find "$modules" -name "$pattern.ko*" | sort | head -n 1
}

# Copy a module into the initrd, uncompressed, and without its signature: checking it would take the
# guest a tenth of its boot, and whoever could change the module could change the kernel as well.
install_module() {
	local file=$1 name=$2

	case $file in
	*.ko) cp "$file" "$root/lib/modules/$name" ;;
	*.ko.xz) xz -dc "$file" >"$root/lib/modules/$name" ;;
	*.ko.zst) zstd -qdc "$file" >"$root/lib/modules/$name" ;;
	*) die "$file: unknown compression" ;;
	esac
	strip --strip-debug "$root/lib/modules/$name"
}

# Add a module to a list, after what it depends on, once.
declare -A added
add_module() {
	local name=$1 list=$2 file dep

	[ -z "${added[$name]:-}" ] || return 0
	added[$name]=1
	file=$(module_file "$name")
	if [ -z "$file" ]; then
		grep -q "/${name//_/[-_]}\.ko" "$modules/modules.builtin" || die "no module $name"
		return 0
	fi
	install_module "$file" "$name.ko"
	for dep in $(grep -az '^depends=' "$root/lib/modules/$name.ko" |
		tr '\0' '\n' | sed 's/^depends=//; s/,/ /g'); do
		add_module "$dep" "$list"
	done
	echo "$name.ko" >>"$root/lib/modules/$list"
}

# newc archive on stdout: sorted, owned by root, no times, inode numbers counted from the first file.
pack_initrd() {
	find "$root" -exec touch -h -d @0 {} +
	(cd "$root" && find . -mindepth 1 -print0 | sort -z |
		cpio --quiet -0 -o -H newc --reproducible -R 0:0)
}
