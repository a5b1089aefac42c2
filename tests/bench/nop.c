/* The floor: what it costs to run a program at all. */
int main(void)
{
	return 0;
}
